package interop_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/internal/testkit"
)

// otherOrderVariable names this test's binary for a machine of the other byte order.
const otherOrderVariable = "SEMAPHORE_TEST_OTHER_ORDER"

func init() { helpers["actor"] = ActorMain }

// otherOrder starts an actor that is a program of the other byte order.
func otherOrder(t *testing.T, e semaphore.Engine) *Actor {
	t.Helper()
	path := os.Getenv(otherOrderVariable)
	if path == "" {
		Missing(t, fmt.Sprintf("this test's binary for a machine of the other byte order, in %s", otherOrderVariable))
	}
	cmd := exec.Command(path, e.String())
	cmd.Env = append(os.Environ(), HelperVariable+"=actor", otherOrderVariable+"=")
	cmd.Stderr = os.Stderr
	return StartActorCommand(t, "other byte order's "+e.String(), cmd)
}

// Programs of both byte orders (one of them emulated) on one name: semaphores of
// EngineFlock are shared, those of the other kinds refused.
func TestOtherByteOrder(t *testing.T) {
	UseHelper("actor")
	for _, e := range []semaphore.Engine{semaphore.EngineNative, semaphore.EngineFlock, semaphore.EngineRecoverable} {
		t.Run(e.String(), func(t *testing.T) {
			NeedEngine(t, e)
			theirs := UniqueName(t)
			other := otherOrder(t, e)
			other.OK("create %s 3", theirs)
			if e == semaphore.EngineFlock {
				s := Open(t, theirs, e)
				Must(t, s.TryWait())
				other.Expect("ok 2", "value")
				other.OK("trywait")
				Becomes(t, s, 1)
				return
			}
			_, err := semaphore.Open(theirs, semaphore.WithEngine(e))
			WantErr(t, "Open of theirs", err, semaphore.ErrCorrupt)
			other.Expect("ok 3", "value") // nothing damaged

			ours := UniqueName(t)
			s := Open(t, ours, e, semaphore.WithValue(3))
			other = otherOrder(t, e)
			other.Send("open %s", ours)
			_, err = semaphore.Open(theirs, semaphore.WithEngine(e))
			WantErr(t, "Open of theirs, again", err, semaphore.ErrCorrupt)
			if got := other.Answer(); got == "ok" {
				t.Error("they have opened ours")
			}
			Becomes(t, s, 3)
		})
	}
}
