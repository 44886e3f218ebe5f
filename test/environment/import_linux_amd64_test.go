package environment_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/internal/testkit"
)

func init() { helpers["trapped"] = trappedMain }

// trappedMain becomes another program, in which one of the refusables ends the process, or
// opens a semaphore there.
func trappedMain(args []string) int {
	var index int
	fmt.Sscan(args[0], &index)
	if err := refusables[index].refuse(unix.SECCOMP_RET_TRAP); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if args[1] != "" {
		fmt.Fprintln(os.Stderr, unix.Exec(args[1], args[1:2], os.Environ()))
		return 1
	}
	if s, err := semaphore.Open(args[2], semaphore.WithRecovery(true)); err == nil {
		s.Close()
	}
	return 0
}

// A program that imports the package lives where a filter ends programs that make one of
// the calls that the package makes, as Android's does with those that it does not know.
func TestImportUnderTraps(t *testing.T) {
	UseHelper("trapped")
	NeedCallNumbers(t)
	NeedTool(t, "go")
	needAction(t, unix.SECCOMP_RET_TRAP)
	importing, baseline := build(t, "importing"), build(t, "baseline")
	trapped := func(call int, program, name string) ([]byte, error) {
		cmd := Helper(t, "trapped", fmt.Sprint(call), program, name)
		cmd.Env, cmd.Stderr = append(cmd.Env, "GOTRACEBACK=none"), nil
		return cmd.CombinedOutput()
	}
	var tried []uint32
	for call, r := range refusables {
		if _, err := trapped(call, baseline, ""); err != nil {
			continue // Go's runtime or the C library makes it
		}
		tried = append(tried, r.number)
		if out, err := trapped(call, importing, ""); err != nil {
			t.Errorf("%s ends a program that imports the package: %v\n%s", r.name, err, out)
		}
	}
	for _, number := range []uint32{unix.SYS_GET_ROBUST_LIST, unix.SYS_FUTEX_WAITV, unix.SYS_FLOCK, unix.SYS_STATFS, unix.SYS_LINKAT} {
		if !slices.Contains(tried, number) {
			t.Errorf("call %d was not tried", number)
		}
	}

	NeedEngine(t, semaphore.EngineRecoverable)
	name := UniqueName(t)
	defer semaphore.Unlink(name, semaphore.WithRecovery(true))
	// A call that each Open makes: that for the robust list is left out if another thread than the first one opens.
	always := slices.IndexFunc(refusables, func(r refusable) bool { return r.number == unix.SYS_STATFS })
	var exit *exec.ExitError
	if out, err := trapped(always, "", name); !errors.As(err, &exit) {
		t.Errorf("the filter ends no program that opens a semaphore: %v\n%s", err, out)
	}
}
