//go:build unix

package command

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const eol = "\n"

// coresEnv lets helpers leave core files.
const coresEnv = "PROCSEM_TEST_CORES"

func becomeHelper() {
	// Helpers that die of SIGQUIT must not leave a core file, unless a test is about that.
	if os.Getenv(coresEnv) != "" {
		return
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		panic(err)
	}
}

// hearInterrupts catches the interrupts that are ignored, as under nohup or in the
// background of a shell: the programs that are to die of them in tests would inherit
// that.
func hearInterrupts() {
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}

func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir()) // as messages have it
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// group gives the command a process group of its own, unless it gets a session.
func group(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
}

func killGroup(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

func signalOf(p *os.ProcessState) syscall.Signal {
	if ws := p.Sys().(syscall.WaitStatus); ws.Signaled() {
		return ws.Signal()
	}
	return 0
}

func unixName(sig syscall.Signal) string { return unix.SignalName(sig) }

// holdFile takes a record lock on a file, which the kernel drops before it drops a
// semaphore's lock.
func holdFile(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return f, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
}

func isHeld(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock)
	return err == nil && lock.Type != unix.F_UNLCK
}

// listen, a helper, prints the signals that it gets. SIGTERM ends it with
// listenStatus.
func listen([]string) int {
	heard := make(chan os.Signal, 100)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
		if signal.Ignored(sig) {
			fmt.Println("ignored:", unix.SignalName(sig.(syscall.Signal)))
		} else {
			signal.Notify(heard, sig)
		}
	}
	fmt.Println("ready")
	for sig := range heard {
		fmt.Println(unix.SignalName(sig.(syscall.Signal)))
		if sig == syscall.SIGTERM {
			break
		}
	}
	return listenStatus
}

func platformStatuses(*testing.T) []statusTest {
	return []statusTest{
		{"SIGKILL", []string{"-c", "kill -KILL $$"}, statusSignal + int(syscall.SIGKILL)},
		{"SIGTERM", []string{"-c", "kill -TERM $$"}, statusSignal + int(syscall.SIGTERM)},
	}
}

// A command that has had the permit for too long is asked to end, also if it is stopped, and is killed
// if it does not. The permit comes back then.
func TestMaxHold(t *testing.T) {
	const forever = "while :; do sleep 0.01; done"
	for what, tt := range map[string]struct {
		flags  []string
		line   string
		stdout string
		says   []string
		status int
	}{
		"ends":         {nil, "echo begins; exec sleep 100", "begins\n", []string{"--max-hold"}, 124},
		"cleans up":    {nil, `trap "echo cleaned; exit 3" TERM; echo begins; ` + forever, "begins\ncleaned\n", []string{"--max-hold"}, 124},
		"is stopped":   {nil, "echo begins; kill -STOP $$; echo goes on", "begins\n", []string{"--max-hold"}, 124},
		"does not end": {[]string{"--kill-after", "1ms"}, `trap "" TERM; echo begins; ` + forever, "begins\n", []string{"--max-hold", "--kill-after"}, 124},
		"ends at once": {[]string{"--kill-after", "1d"}, "echo begins; exec sleep 100", "begins\n", []string{"--max-hold"}, 124},
		"ends in time": {[]string{"--max-hold", "1d"}, "echo begins; exit 3", "begins\n", nil, 3},
		"dies in time": {[]string{"--max-hold", "1d"}, "echo begins; kill -TERM $$", "begins\n", nil, statusSignal + int(syscall.SIGTERM)},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			name := newName(t)
			// On a slow machine the command needs a while to begin.
			got := outcome{}
			for hold := 100 * time.Millisecond; hold < deadline && got.stdout == ""; hold *= 2 {
				got = run(t, append(append([]string{"run", "--max-hold", hold.String()}, tt.flags...), name, "-c", tt.line)...)
			}
			if got.status != tt.status || got.stdout != tt.stdout || strings.Count(got.stderr, "\n") != len(tt.says) {
				t.Errorf("got %+v, want status %d and %q", got, tt.status, tt.stdout)
			}
			for _, says := range tt.says {
				if !strings.Contains(got.stderr, says) {
					t.Errorf("%q does not say %q", got.stderr, says)
				}
			}
			checkValue(t, name, 1)
		})
	}
}
