//go:build (unix && !aix && !filelock_fcntl) || windows

// What may surround the recoverable engine: other users, suspended processes, programs
// that do not know about it, invalid records. See also environment_unix_test.go,
// environment_linux_test.go, and docs/verification.md, "The environment".

package environment_test

import (
	"encoding/binary"
	"math"
	"os"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/permits"
	. "github.com/procsem/semaphore/internal/testkit"
)

// aLook is time enough for a waiter's safety net to look once.
const aLook = 1500 * time.Millisecond

// A suspended holder is alive: it keeps its permit, also when a waiter's safety net
// looks, and still has it when it is resumed.
func TestSuspendedHolder(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		defer Rescuing()()
		s := Open(t, UniqueName(t), Recoverable)
		a := Holding(t, s.Name(), 1)
		Suspend(t, a.Cmd)
		WantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
		WantErr(t, "WaitTimeout", s.WaitTimeout(aLook), semaphore.ErrTimeout)
		WantErr(t, "TryWait after it", s.TryWait(), semaphore.ErrWouldBlock)
		waiting := Blocked(t, s, s.Wait)
		GoOn(t, a.Cmd)
		a.OK("posts 1") // so it still held the permit
		Must(t, Result(t, waiting))
	})
}

// Process ids and times in the file are only shown, and nothing depends on them: if they
// are nonsense, living holders keep their permits and dead holders lose them.
func TestNonsenseTimes(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		defer Rescuing()()
		for what, tt := range map[string]struct {
			pid             uint32
			started, opened int64
			since, waited   int64
			listed          int // handles; one that says no time of opening is taken for one that is being opened
		}{
			"zeros":                  {},
			"the far future":         {1, math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64, 1},
			"before the first clock": {math.MaxUint32, math.MinInt64, math.MinInt64, math.MinInt64, math.MinInt64, 1},
			"ours":                   {uint32(os.Getpid()), 1, time.Now().UnixNano(), time.Now().UnixNano(), 1, 1},
		} {
			t.Run(what, func(t *testing.T) {
				s := Open(t, UniqueName(t), Recoverable)
				a := Holding(t, s.Name(), 1)
				f, err := os.OpenFile(StoreFile(Recoverable, s.Name()), os.O_RDWR, 0)
				Must(t, err)
				defer f.Close()
				for slot := range int64(Table(s).Slots()) {
					at := permits.SlotsAt + slot*permits.SlotSize
					for offset, value := range map[int64]any{24: tt.pid, 32: tt.started, 40: tt.opened, 64: tt.since, 72: tt.waited} {
						b, err := binary.Append(nil, binary.NativeEndian, value)
						Must(t, err)
						_, err = f.WriteAt(b, at+offset)
						Must(t, err)
					}
				}
				WantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
				Becomes(t, s, 0)
				hs, err := s.Holders()
				if err != nil || len(hs) != tt.listed || len(hs) > 0 && (hs[0].Permits != 1 || hs[0].Since.IsZero() == (tt.since > 0) || hs[0].Waited < 0) {
					t.Errorf("Holders %+v, %v, want %d", hs, err, tt.listed)
				}
				waiting := Blocked(t, s, s.Wait)
				Must(t, a.Cmd.Process.Kill())
				Must(t, Result(t, waiting))
			})
		}
	})
}
