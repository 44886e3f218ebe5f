//go:build cgo && unix

package interop_test

import (
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// EngineLibc calls libc for every operation; EngineAuto, on a glibc that can be probed,
// for none of these.
func TestCallsOfLibc(t *testing.T) {
	auto := 400
	if testhook.Libc.Glibc && !testhook.Libc.Polls {
		auto = 0
	}
	for _, tt := range []struct {
		engine semaphore.Engine
		calls  int
	}{{semaphore.EngineLibc, 400}, {semaphore.EngineAuto, auto}, {semaphore.EngineNative, 0}} {
		t.Run(tt.engine.String(), func(t *testing.T) {
			NeedEngine(t, tt.engine)
			s := Open(t, UniqueName(t), tt.engine)
			if tt.engine == semaphore.EngineAuto && s.Engine() != semaphore.EngineLibc {
				t.Errorf("Engine() of a build with cgo: %v", s.Engine())
			}
			before := testhook.Libc.Calls()
			for range 100 {
				Must(t, s.Wait())
				Must(t, s.Post())
				Must(t, s.TryWait())
				Must(t, s.Post())
			}
			if got := testhook.Libc.Calls() - before; got != tt.calls {
				t.Errorf("%d calls of libc for 400 operations, want %d", got, tt.calls)
			}
		})
	}
}
