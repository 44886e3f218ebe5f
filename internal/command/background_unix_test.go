//go:build unix

package command

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/procsem/semaphore"
	"golang.org/x/sys/unix"
)

// alive reports whether a process runs.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// startBackground runs a procsem run --bg whose command holds a file, and returns when it has returned.
func startBackground(t *testing.T, args ...string) (command int) {
	t.Helper()
	cmd := procsemCommand(t, append(append([]string{"run", "--bg"}, args...), helperCommand(t, "hold", filepath.Join(t.TempDir(), "file"))...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	said := readLines(out)
	start(t, cmd)
	// Not by Wait, which closes the pipe.
	state, err := cmd.Process.Wait()
	if err != nil || state.ExitCode() != 0 {
		t.Fatalf("procsem: %v, %v", state, err)
	}
	command = atoi(said.read(t))
	t.Cleanup(func() { killIfThere(command) })
	return command
}

// procsem returns when the command runs, with its permits, and they come back when it ends.
func TestBackground(t *testing.T) {
	for _, line := range []string{"A", "-k 2 -n 2 A", "--also B A", "-F A", "-F --also B A", "--close A", "-w 5 A", "-w 0 A", "--label x A", "--max-hold 1d A"} {
		t.Run(line, func(t *testing.T) {
			all, names := newNames(t, 2)
			command := startBackground(t, nestedArgs(t, names, line)...)
			checkValue(t, all[0], 0)
			if strings.Contains(line, "B") {
				checkValue(t, all[1], 0)
			}
			if got := run(t, "wait", "--idle", "-w", "0", all[0]); got.status != statusTempFail {
				t.Errorf("wait --idle: %+v", got)
			}
			// It is no member of our session, to whose terminal's keys it does not listen.
			ours, _ := unix.Getsid(0)
			if theirs, err := unix.Getsid(command); err != nil || theirs == ours {
				t.Errorf("the command's session is %d, ours %d, %v", theirs, ours, err)
			}
			kill(t, command)
			if got := run(t, "wait", "--idle", all[0]); got.status != 0 {
				t.Errorf("wait --idle: %+v", got)
			}
			eventually(t, "the permits are back", func() bool { return valueOf(t, all[0]) == limitOf(t, all[0]) })
		})
	}
}

// The command's input and output are those of procsem.
func TestBackgroundStreams(t *testing.T) {
	for _, how := range []string{"--posix=false", "-F", "--posix"} {
		name := newName(t)
		cmd := procsemCommand(t, "run", "--bg", how, name, "-c", `read line; echo "out [$line] $PROCSEM_NAME ${PROCSEM_BACKGROUND-none}"; echo err >&2`)
		cmd.Stdin = strings.NewReader("input\n")
		// runCmd returns when nobody has the pipes any more, so when the command has ended.
		if got, want := runCmd(t, cmd), (outcome{stdout: "out [input] " + name + " none\n", stderr: "err\n"}); got != want {
			t.Errorf("%s: got %+v, want %+v", how, got, want)
		}
		eventually(t, "the permit is back", func() bool { return valueOf(t, name) == 1 })
	}
}

// A command that does not start is told as without --bg.
func TestBackgroundThatDoesNotStart(t *testing.T) {
	held, s := newRecoverable(t, 1)
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"NAME", "procsem-test-none"}, 127, "command not found; the NAME is the word before it"},
		{[]string{"NAME", "/etc/passwd"}, 126, "permission denied"},
		{[]string{"-F", "NAME", "procsem-test-none"}, 127, "command not found"},
		{[]string{"-F", "NAME", "/etc/passwd"}, 126, "permission denied"},
		{[]string{"-w", "0", held, "true"}, 75, "no permit of"},
		{[]string{"-w", "0.01", "-E", "9", held, "true"}, 9, "within 10ms"},
		{[]string{"-w", "0", "-F", "--also", held, "NAME", "true"}, 75, "no permit of"},
		{[]string{"-k", "2", "NAME", "true"}, 64, "-k 2"},
		{[]string{"-n", "x", "NAME", "true"}, 64, `"x"`},
	} {
		name := newName(t)
		args := []string{"run", "--bg"}
		for _, arg := range tt.args {
			args = append(args, strings.Replace(arg, "NAME", name, 1))
		}
		if got := run(t, args...); got.status != tt.status || got.stdout != "" || !isOneLine(got.stderr) || !strings.Contains(got.stderr, tt.says) {
			t.Errorf("%v: got %+v, want status %d and a line with %q", tt.args, got, tt.status, tt.says)
		}
		if tt.status > 100 {
			checkValue(t, name, 1)
		}
	}
	cmd := procsemCommand(t, "run", "--bg", newName(t), "true")
	cmd.Env = append(cmd.Env, backgroundVariable+"=0")
	if got := runCmd(t, cmd); got.status != statusOSErr || !strings.Contains(got.stderr, "only procsem sets it") {
		t.Errorf("got %+v, want an error", got)
	}
}

// startWaitingBackground starts a procsem run --bg that has to wait, and returns when the one in the background waits.
// said returns what they have printed.
func startWaitingBackground(t *testing.T, s *semaphore.Semaphore, args ...string) (front *exec.Cmd, background int, said func() string) {
	t.Helper()
	front = procsemCommand(t, append(append([]string{"run", "--bg"}, args...), s.Name(), "-c", "echo the command ran")...)
	front.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Into a file: of a pipe Wait would wait for the end that the one in the background has.
	path := filepath.Join(t.TempDir(), "output")
	output, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	front.Stdout, front.Stderr = output, output
	start(t, front)
	eventually(t, "it waits", func() bool {
		hs, err := s.Holders()
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hs {
			if h.Waiting {
				background = h.PID
			}
		}
		return background != 0
	})
	t.Cleanup(func() { killIfThere(background) })
	return front, background, func() string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

// What ends the procsem in front while it waits ends the one in the background too, and nothing is taken.
func TestBackgroundGivesUpWithFront(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGKILL} {
		for _, how := range []string{"--posix=false", "-F"} {
			t.Run(unixName(sig)+" "+how, func(t *testing.T) {
				t.Parallel()
				_, s := newRecoverable(t, 1)
				if err := s.Wait(); err != nil {
					t.Fatal(err)
				}
				front, _, said := startWaitingBackground(t, s, how)
				if err := front.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				if got := wait(t, front); got.signal != sig && !endedByQuit(sig, got) {
					t.Errorf("got %+v, want the death of %v", got, sig)
				}
				waits := func() bool {
					hs, err := s.Holders()
					return err != nil || len(hs) != 1 || hs[0].Waiting // we are the one
				}
				if sig == syscall.SIGKILL {
					eventually(t, "the one in the background has given up", func() bool { return !waits() })
				} else if waits() {
					t.Error("procsem has died, and the one in the background waits")
				}
				if err := s.Post(); err != nil {
					t.Fatal(err)
				}
				checkValue(t, s.Name(), 1)
				if text := said(); text != "" {
					t.Errorf("it said %q", text)
				}
			})
		}
	}
}

// The end of the procsem in the background, before the command has started, is told.
func TestBackgroundIsKilled(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		_, s := newRecoverable(t, 1)
		if err := s.Wait(); err != nil {
			t.Fatal(err)
		}
		front, background, said := startWaitingBackground(t, s)
		if err := syscall.Kill(background, sig); err != nil {
			t.Fatal(err)
		}
		if got := wait(t, front); got.status != statusSignal+int(sig) || !isOneLine(said()) || !strings.Contains(said(), "in the background was killed") {
			t.Errorf("%v: got %+v and %q", sig, got, said())
		}
		if err := s.Post(); err != nil {
			t.Fatal(err)
		}
		checkValue(t, s.Name(), 1)
	}
}

// GNU sem's way to run a loop: all that were started are gathered.
func TestBackgroundIsGathered(t *testing.T) {
	const jobs, limit = 12, 3
	name, dir := newName(t), t.TempDir()
	cmd := procsemCommand(t)
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", fmt.Sprintf(`i=0
		while [ $i -lt %d ]; do
			%s=1 "$procsem" run --bg -n %d %s -c "echo x >$dir/$i" || exit
			i=$((i+1))
		done
		%[2]s=1 exec "$procsem" wait --idle %[4]s`, jobs, helperEnv, limit, name)}
	cmd.Env = append(cmd.Env, "procsem="+self(t), "dir="+dir)
	if got := runCmd(t, cmd); got.status != 0 || got.stderr != "" {
		t.Errorf("got %+v", got)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != jobs {
		t.Errorf("%d of %d commands had run when nobody held a permit, %v", len(files), jobs, err)
	}
	checkValue(t, name, limit)
}

// A signal for the command that comes while procsem waits is passed on to it, whatever the one in the background does by then.
func TestSignalForCommandInBackground(t *testing.T) {
	_, s := newRecoverable(t, 1)
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	front, _, said := startWaitingBackground(t, s)
	if err := front.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if err := s.Post(); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, front); got.status != 0 {
		t.Errorf("got %+v and %q", got, said())
	}
	eventually(t, "the command has ended", func() bool { return valueOf(t, s.Name()) == 1 })
}

// A wait in the background is not drawn, but said with -v.
func TestBackgroundSpeaks(t *testing.T) {
	t.Parallel()
	_, s := newRecoverable(t, 1)
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	front, _, said := startWaitingBackground(t, s, "-v")
	eventually(t, "it says for whom it waits", func() bool {
		return strings.Contains("\n"+said(), "\nprocsem: "+s.Name()+": waiting, 1st of 1, for ")
	})
	if err := s.Post(); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, front); got.status != 0 {
		t.Errorf("got %+v and %q", got, said())
	}
	eventually(t, "the command has ended", func() bool { return valueOf(t, s.Name()) == 1 })
}
