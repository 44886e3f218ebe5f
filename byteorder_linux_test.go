package semaphore_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/procsem/semaphore"
)

// otherOrderVariable is this test's binary for a machine of the other byte order.
const otherOrderVariable = "SEMAPHORE_TEST_OTHER_ORDER"

// otherOrder starts an actor that is a program of the other byte order.
func otherOrder(t *testing.T, e semaphore.Engine) *actor {
	t.Helper()
	path := os.Getenv(otherOrderVariable)
	if path == "" {
		missing(t, fmt.Sprintf("this test's binary for a machine of the other byte order, in %s", otherOrderVariable))
	}
	cmd := exec.Command(path, e.String())
	cmd.Env = append(os.Environ(), helperVariable+"=actor", otherOrderVariable+"=")
	cmd.Stderr = os.Stderr
	return startActorCommand(t, "other byte order's "+e.String(), cmd)
}

// Programs of both byte orders (one of them emulated) on one name: flock-counters are
// shared, the other kinds refused.
func TestOtherByteOrder(t *testing.T) {
	useHelper("actor")
	for _, e := range []semaphore.Engine{semaphore.EngineNative, semaphore.EngineFlock, semaphore.EngineRecoverable} {
		t.Run(e.String(), func(t *testing.T) {
			needEngine(t, e)
			theirs := uniqueName(t)
			other := otherOrder(t, e)
			other.ok("create %s 3", theirs)
			if e == semaphore.EngineFlock {
				s := open(t, theirs, e)
				must(t, s.TryWait())
				other.expect("ok 2", "value")
				other.ok("trywait")
				becomes(t, s, 1)
				return
			}
			_, err := semaphore.Open(theirs, semaphore.WithEngine(e))
			wantErr(t, "Open of theirs", err, semaphore.ErrCorrupt)
			other.expect("ok 3", "value") // nothing damaged

			ours := uniqueName(t)
			s := open(t, ours, e, semaphore.WithValue(3))
			other = otherOrder(t, e)
			other.send("open %s", ours)
			_, err = semaphore.Open(theirs, semaphore.WithEngine(e))
			wantErr(t, "Open of theirs, again", err, semaphore.ErrCorrupt)
			if got := other.answer(); got == "ok" {
				t.Error("they have opened ours")
			}
			becomes(t, s, 3)
		})
	}
}
