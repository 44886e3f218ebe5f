//go:build unix

package testkit

import (
	"bytes"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/procsem/semaphore"
)

// FuzzOpen fuzzes the content of an engine's file, for engines whose permits have no
// owners: it is refused and left as it is, or works as a semaphore.
func FuzzOpen(f *testing.F, e semaphore.Engine) {
	name := UniqueName(f)
	path := StoreFile(e, name)
	f.Fuzz(func(t *testing.T, content []byte) {
		if e == semaphore.EngineFlock {
			content = append(slices.Clip(content), name...) // nothing but refused otherwise
		}
		Must(t, os.WriteFile(path, content, 0o600))
		defer os.Remove(path)
		unchanged := func() {
			if now, _ := os.ReadFile(path); !bytes.Equal(now, content) {
				t.Errorf("the file was changed: % x", now)
			}
		}
		s, err := semaphore.Open(name, semaphore.WithEngine(e))
		if err != nil {
			WantErr(t, "Open", err, semaphore.ErrCorrupt)
			unchanged()
			return
		}
		defer s.Close()
		before, err := s.Value()
		Must(t, err)
		if err := s.TryWait(); err == nil {
			Must(t, s.Post())
		} else {
			WantErr(t, "TryWait", err, semaphore.ErrWouldBlock)
			WantErr(t, "WaitTimeout", s.WaitTimeout(time.Microsecond), semaphore.ErrTimeout)
		}
		if after, _ := s.Value(); after != before {
			t.Errorf("value %d, was %d", after, before)
		}
		if e == semaphore.EngineFlock { // EngineNative counts waiters in the file
			unchanged()
		}
	})
}
