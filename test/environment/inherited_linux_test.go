package environment_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/internal/testkit"
)

// A child that is started while a semaphore is created or opened inherits no descriptor of
// its file: each is opened with O_CLOEXEC. And there is no name but the semaphore's, which a
// creator that is killed could leave behind.
func TestDescriptorsAreNotInherited(t *testing.T) {
	UseHelper("faults")
	NeedCallNumbers(t)
	NeedTool(t, "strace")
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		NeedFile(t, e)
		for _, create := range []bool{true, false} {
			log := filepath.Join(t.TempDir(), "strace")
			doSteps(t, e, create, func(problem string) { t.Error(problem) }, "-o", log, "-e", "trace=?open,openat")
			b, err := os.ReadFile(log)
			Must(t, err)
			opened := false
			for line := range strings.Lines(string(b)) {
				if !strings.Contains(line, "semtest") && !strings.Contains(line, "/dev/shm/") && !strings.Contains(line, "O_TMPFILE") {
					continue
				}
				opened = true
				if !strings.Contains(line, "O_CLOEXEC") {
					t.Errorf("create=%v: a child would inherit: %s", create, line)
				}
				if strings.Contains(line, "O_CREAT") {
					t.Errorf("create=%v: a kill would leave behind: %s", create, line)
				}
			}
			if !opened {
				t.Errorf("create=%v: opened no file:\n%s", create, b)
			}
		}
	})
}
