package command

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a pseudoterminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudoterminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudoterminals here: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// In the foreground the terminal sends its signals to the command directly, and procsem
// does not forward them.
func TestRunInForegroundLeavesSIGINTToTerminal(t *testing.T) {
	name := newName(t)
	master, slave := openTerminal(t)
	cmd := procsemCommand(t, append([]string{"run", name, "--"}, helperCommand(t, "listen")...)...)
	cmd.Stdin, cmd.Stderr = slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	heard := readLines(out)
	heard.want(t, "ready")
	signal := func(sig syscall.Signal) {
		t.Helper()
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}

	// procsem forwards signals that came before the command started without asking
	// whether it is in the foreground, and may still do so when the command is ready.
	// After it has forwarded this one it does so no more.
	signal(syscall.SIGUSR1)
	heard.want(t, "SIGUSR1")

	signal(syscall.SIGINT) // if it were forwarded, it would be heard before SIGUSR1
	signal(syscall.SIGUSR1)
	heard.want(t, "SIGUSR1")

	for _, key := range []struct {
		char byte
		want string
	}{{3, "SIGINT"}, {0o34, "SIGQUIT"}} {
		if _, err := master.Write([]byte{key.char}); err != nil {
			t.Fatal(err)
		}
		heard.want(t, key.want)
		signal(syscall.SIGUSR2)
		heard.want(t, "SIGUSR2") // and not the key's signal again
	}

	signal(syscall.SIGTERM)
	heard.want(t, "SIGTERM")
	if got := wait(t, cmd); got.status != listenStatus {
		t.Errorf("got %+v, want the command's status, %d", got, listenStatus)
	}
	checkValue(t, name, 1)
}

// onTerminal starts a shell in the foreground of a terminal of its own. "$procsem" of its
// script is procsem, and keys are sent to the terminal.
func onTerminal(t *testing.T, shell, script string) (cmd *exec.Cmd, said *lines, press func(key byte)) {
	t.Helper()
	path, err := exec.LookPath(shell)
	if err != nil {
		t.Skip(err)
	}
	master, slave := openTerminal(t)
	cmd = procsemCommand(t)
	cmd.Path, cmd.Args = path, []string{shell, "-c", script}
	cmd.Env = append(cmd.Env, "procsem="+self(t))
	cmd.Stdin, cmd.Stderr = slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	return cmd, readLines(out), func(key byte) {
		t.Helper()
		if _, err := master.Write([]byte{key}); err != nil {
			t.Fatal(err)
		}
	}
}

// A shell that waits for a command when Ctrl-C is pressed goes on with its script unless
// the command dies of it: an exit, with whatever status, is none.
func TestCtrlCEndsScript(t *testing.T) {
	// The line is printed by the process that is to die, as a shell that forks at the moment
	// of the signal may die without its child.
	const long = `sh -c "echo ready; exec sleep 100"`
	for _, shell := range []string{"bash", "dash"} {
		for what, script := range map[string]string{
			"script": `"$procsem" run NAME -- ` + long + `; echo deployed`,
			"close":  `"$procsem" run --close NAME -- ` + long + `; echo deployed`,
			"posix":  `"$procsem" run --posix NAME -- ` + long + `; echo deployed`,
			"line":   `"$procsem" run NAME -c '` + long + `; :'; echo deployed`,
			"loop":   `for i in 1 2 3; do "$procsem" run NAME -- ` + long + `; done; echo deployed`,
		} {
			t.Run(shell+" "+what, func(t *testing.T) {
				t.Parallel()
				name := newName(t)
				cmd, said, press := onTerminal(t, shell, strings.ReplaceAll(script, "NAME", name))
				said.want(t, "ready")
				press(ctrlC)
				if line, more := <-said.next; more {
					t.Fatalf("the script went on: %s", line)
				}
				if got := wait(t, cmd); got.signal != syscall.SIGINT {
					t.Errorf("got %+v, want the death of SIGINT", got)
				}
				checkValue(t, name, 1)
			})
		}
	}
}

// The command's own handling of Ctrl-C is not procsem's end.
func TestCtrlCThatCommandHandles(t *testing.T) {
	name := newName(t)
	cmd, said, press := onTerminal(t, "bash", `"$procsem" run `+name+` -c 'trap "exit 3" INT; echo ready; while :; do sleep 0.01; done'; echo $?`)
	said.want(t, "ready")
	press(ctrlC)
	said.want(t, "3")
	if got := wait(t, cmd); got.status != 0 {
		t.Errorf("got %+v, want the script's end", got)
	}
	checkValue(t, name, 1)
}

// Only the command got the signal: procsem reports it as a shell would.
func TestSignalThatOnlyCommandGets(t *testing.T) {
	name := newName(t)
	cmd, said, _ := onTerminal(t, "bash", `"$procsem" run `+name+` -c 'kill -INT $$; sleep 100'; echo $?`)
	said.want(t, "130")
	wait(t, cmd)
	checkValue(t, name, 1)
}

// procsem dies of SIGQUIT as its command does, but leaves no core file.
func TestQuitLeavesNoCore(t *testing.T) {
	for _, ready := range []string{"command", "wait"} {
		t.Run(ready, func(t *testing.T) {
			name := newName(t)
			script := `cd "$dir" && ulimit -c unlimited && exec "$procsem" run ` + name + ` -c 'ulimit -c 0; echo ready; exec sleep 100'`
			if ready == "wait" {
				n, s := newRecoverable(t, 1)
				if err := s.SetLimit(0); err != nil {
					t.Fatal(err)
				}
				name = n
				// The notice says that signals are caught.
				script = `cd "$dir" && ulimit -c unlimited && exec "$procsem" run -n 1 ` + name + ` -- true 2>&1`
			}
			t.Setenv("dir", t.TempDir())
			t.Setenv(coresEnv, "1")
			cmd, said, press := onTerminal(t, "bash", script)
			said.read(t)
			press(ctrlBackslash)
			got := wait(t, cmd)
			if got.signal != syscall.SIGQUIT {
				t.Errorf("got %+v, want the death of SIGQUIT", got)
			}
			if cmd.ProcessState.Sys().(syscall.WaitStatus).CoreDump() {
				t.Error("procsem left a core file")
			}
		})
	}
}

// A command that stops stops procsem, so that the shell notices and can continue both.
// With "set -m" bash and dash control jobs in scripts too. "$run" is procsem run.
func TestCommandStops(t *testing.T) {
	for _, shell := range []string{"bash", "dash"} {
		for what, script := range map[string]string{
			"TSTP":    `$run NAME -c 'kill -TSTP $$; echo on; exit 5'; echo $?; fg >&2; echo $?`,
			"STOP":    `$run NAME -c 'kill -STOP $$; echo on; exit 5'; echo $?; fg >&2; echo $?`,
			"posix":   `$run --posix NAME -c 'kill -TSTP $$; echo on; exit 5'; echo $?; fg >&2; echo $?`,
			"no fork": `$run -F NAME -- sh -c 'kill -TSTP $$; echo on; exit 5'; echo $?; fg >&2; echo $?`,
			"twice":   `$run NAME -c 'kill -TSTP $$; kill -TSTP $$; echo on; exit 5'; fg >&2; echo $?; fg >&2; echo $?`,
		} {
			t.Run(shell+" "+what, func(t *testing.T) {
				t.Parallel()
				name := newName(t)
				cmd, said, _ := onTerminal(t, shell, `set -m; run="$procsem run"; `+strings.ReplaceAll(script, "NAME", name))
				said.want(t, "148") // 128 + SIGTSTP
				said.want(t, "on")
				said.want(t, "5")
				wait(t, cmd)
				checkValue(t, name, 1)
			})
		}
	}
}

// Ctrl-Z stops both. When they are continued procsem must not stop again because it
// learns only then that the command was stopped.
func TestCtrlZ(t *testing.T) {
	for _, shell := range []string{"bash", "dash"} {
		t.Run(shell, func(t *testing.T) {
			name := newName(t)
			cmd, said, press := onTerminal(t, shell, `set -m; "$procsem" run `+name+` -c 'echo ready; read line; echo on; exit 5'; echo $?; fg >&2; echo $?`)
			said.want(t, "ready")
			press(ctrlZ)
			said.want(t, "148")
			press('\n')
			said.want(t, "on")
			said.want(t, "5")
			wait(t, cmd)
			checkValue(t, name, 1)
		})
	}
}

// "kill -CONT" of procsem alone continues the command as well.
func TestContinuedProcsemContinuesCommand(t *testing.T) {
	name, s := newRecoverable(t, 1)
	_, said, _ := onTerminal(t, "bash", `set -m; "$procsem" run `+name+` -c 'kill -TSTP $$; echo on'; jobs -p; read line`)
	if err := syscall.Kill(atoi(said.read(t)), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	said.want(t, "on")
	if err := s.WaitTimeout(deadline); err != nil {
		t.Errorf("procsem has not given the permit back: %v", err)
	}
}

// Without a shell that would continue it procsem goes on when its command is stopped.
func TestCommandStopsWithoutShell(t *testing.T) {
	name := newName(t)
	cmd := procsemCommand(t, "run", name, "-c", "echo $$; kill -STOP $$; exit 3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	pid := atoi(readLines(out).read(t))
	for end := time.Now().Add(deadline); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(stat), ") T ") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the command has not stopped: %s", stat)
		}
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, cmd); got.status != 3 {
		t.Errorf("got %+v, want the command's status, 3", got)
	}
	checkValue(t, name, 1)
}
