package interop_test

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/internal/testkit"
)

// A program of the other word size and one of ours, on one name.
func TestOtherWordSize(t *testing.T) {
	compiler, bits := []string{"i686-linux-gnu-gcc", "-static"}, 32 // its libraries are not installed for running
	if strconv.IntSize == 32 {
		compiler, bits = []string{"cc"}, 64
	}
	NeedTool(t, compiler[0])
	path, err := Compile(compiler, "actor.c")
	Must(t, err)
	name := UniqueName(t)
	other := StartActorCommand(t, fmt.Sprintf("%d-bit C", bits), exec.Command(path))
	other.OK("create /%s 1", name)
	for _, e := range []semaphore.Engine{semaphore.EngineNative, semaphore.EngineLibc, semaphore.EngineAuto} {
		if !HasEngine(e) || StoreFile(e, name) != StoreFile(semaphore.EngineNative, name) {
			continue
		}
		_, err = semaphore.Open(name, semaphore.WithEngine(e))
		WantErr(t, fmt.Sprint("Open by engine ", e), err, semaphore.ErrCorrupt)
		if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("programs of %d bits", bits)) {
			t.Errorf("%v: does not name the word size", err)
		}
	}
	other.OK("trywait") // nothing damaged
	other.OK("posts 1")
	other.Expect("ok 1", "value")
}
