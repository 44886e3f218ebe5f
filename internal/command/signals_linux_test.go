package command

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/procsem/semaphore/internal/startsignals"
)

// The command ignores what procsem was started with ignored, as if a shell had started it.
func TestCommandIgnoresWhatWasIgnored(t *testing.T) {
	const status = "grep SigIgn /proc/self/status"
	maskOf := func(cmd *exec.Cmd) uint64 {
		t.Helper()
		out := runCmd(t, cmd)
		_, hex, _ := strings.Cut(out.stdout, "SigIgn:")
		mask, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if err != nil {
			t.Fatalf("%+v: %v", out, err)
		}
		return mask
	}
	bit := func(sigs ...syscall.Signal) (mask uint64) {
		for _, sig := range sigs {
			mask |= 1 << (sig - 1)
		}
		return mask
	}
	// procsem needs the first two, and os/signal cannot ignore the others.
	never := bit(syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPROF, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGBUS, syscall.SIGFPE,
		syscall.SIGSEGV, 16 /* SIGSTKFLT, elsewhere than on MIPS */, syscall.SIGSYS)
	known := ^never
	if !startsignals.All {
		// What Go's runtime leaves as it was.
		known = bit(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, 34)
	}
	for _, ignored := range []string{"QUIT USR1 USR2 PIPE TERM ALRM", "HUP INT", "TSTP TTIN TTOU CONT", "1 2 3 6 10 12 13 14 15 16 17 18 20 21 22 24 25 26 27 28 29 30 34 50 64", ""} {
		for _, how := range []string{"--posix=false", "--close", "--posix", "--no-fork", "-c"} {
			t.Run(ignored+" "+how, func(t *testing.T) {
				started := func(args ...string) *exec.Cmd {
					cmd := procsemCommand(t)
					script := `for sig in ` + ignored + `; do trap "" $sig; done; exec "$@"`
					cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", script, "sh"}, args...)
					return cmd
				}
				args := []string{self(t), "run", how, newName(t), "--"}
				if how == "-c" {
					args = []string{self(t), "run", newName(t), "-c", status}
				} else {
					args = append(args, strings.Fields(status)...)
				}
				want := maskOf(started(strings.Fields(status)...))
				ignorable := known
				if how == "--no-fork" && startsignals.All {
					ignorable |= bit(syscall.SIGCHLD)
				}
				got := maskOf(started(args...))
				if !startsignals.All {
					got &^= bit(syscall.SIGCONT) // nothing depends on whether it is ignored
				}
				if got != want&ignorable {
					t.Errorf("ignored are %s, want %s", signals(got), signals(want&ignorable))
				}
			})
		}
	}
}

func signals(mask uint64) string {
	var names []string
	for i := range 64 {
		if mask&(1<<i) != 0 {
			names = append(names, fmt.Sprint(i+1))
		}
	}
	return fmt.Sprintf("[%s]", strings.Join(names, " "))
}
