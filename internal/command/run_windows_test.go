package command

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/windows"
)

// alive reports whether a process runs.
func alive(t *testing.T, pid int) bool {
	t.Helper()
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	if err == windows.ERROR_INVALID_PARAMETER {
		return false // no such process
	}
	if err != nil {
		t.Fatal(err)
	}
	defer windows.CloseHandle(h)
	event, err := windows.WaitForSingleObject(h, 0)
	if err != nil {
		t.Fatal(err)
	}
	return event == uint32(windows.WAIT_TIMEOUT)
}

func TestKilledRunEndsCommand(t *testing.T) {
	for _, flag := range hows() {
		name, file := newName(t), filepath.Join(tempDir(t), "held")
		first, command := startHolder(t, name, file, flag)
		second, said := startWaiter(t, name, file, flag)
		kill(t, first.Process.Pid)
		wait(t, first)
		said.read(t)
		if got := wait(t, second); got.status != 0 {
			t.Errorf("the second run: %+v", got)
		}
		eventually(t, "the command has ended", func() bool { return !alive(t, command) })
		checkValue(t, name, 1)
	}
}

func TestKilledRunOfPOSIXEndsCommand(t *testing.T) {
	name, file := newSemaphore(t, 1), filepath.Join(tempDir(t), "held")
	first, command := startHolder(t, name, file, "--posix")
	kill(t, first.Process.Pid)
	wait(t, first)
	eventually(t, "the command has ended", func() bool { return !alive(t, command) })
	checkValue(t, name, 0) // the permit is lost
}

// Processes that the command starts end with procsem too, unless they break away from
// the job.
func TestKilledRunSparesProcessThatBreaksAway(t *testing.T) {
	name := newName(t)
	cmd := procsemCommand(t, append([]string{"run", name, "--"}, helperCommand(t, "break away")...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	start(t, cmd)
	pid := atoi(readLines(out).read(t))
	kill(t, cmd.Process.Pid)
	wait(t, cmd)
	eventually(t, "the permit is back", func() bool { return valueOf(t, name) == 1 })
	kill(t, pid) // fails if it does not run any more
}

func TestShellLineIsPassedUnchanged(t *testing.T) {
	for line, want := range map[string]string{
		`echo one & echo two`: "one \ntwo\n",
		`echo "a  b"`:         "\"a  b\"\n",
		`"` + os.Getenv("ComSpec") + `" /c echo "x  y" & echo "z"`: "\"x  y\" \n\"z\"\n",
	} {
		got := run(t, "run", newName(t), "-c", line)
		if got.status != 0 || got.stdout != want || got.stderr != "" {
			t.Errorf("%s: got %+v, want %q", line, got, want)
		}
	}
}

// startInConsole starts a procsem with a console of its own, and returns a function
// that presses Ctrl-C there.
func startInConsole(t *testing.T, cmd *exec.Cmd) (interrupt func()) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW}
	start(t, cmd)
	return func() {
		t.Helper()
		args := helperCommand(t, "interrupt", strconv.Itoa(cmd.Process.Pid))
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

func TestCtrlCReachesCommandOnce(t *testing.T) {
	for _, how := range hows("--close") {
		name := newName(t)
		cmd := procsemCommand(t, append([]string{"run", how, name, "--"}, helperCommand(t, "listen")...)...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		interrupt := startInConsole(t, cmd)
		heard := readLines(out)
		heard.want(t, "ready")
		for range 2 {
			interrupt()
			heard.want(t, "Ctrl-C")
		}
		checkValue(t, name, 0) // procsem waits for the command
		in.Close()
		heard.want(t, "2 in all")
		if got := wait(t, cmd); got.status != listenStatus {
			t.Errorf("%s: got %+v, want the command's status, %d", how, got, listenStatus)
		}
		checkValue(t, name, 1)
	}
}

const statusCtrlC uint32 = 0xC000013A

func TestCtrlCEndsWait(t *testing.T) {
	eachFull(t, "Ctrl-C", func(t *testing.T, flags []string, name, notice string, open func()) {
		args := append(append([]string{"run", "-n", "1"}, flags...), name)
		cmd := procsemCommand(t, append(args, helperCommand(t, "exit", "0")...)...)
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		interrupt := startInConsole(t, cmd)
		said := readLines(stderr)
		said.want(t, notice) // printed after procsem has begun to catch Ctrl-C
		interrupt()
		for line := range said.next {
			t.Errorf("stderr: %s", line)
		}
		if got := wait(t, cmd); uint32(got.status) != statusCtrlC {
			t.Errorf("got %+v, want status %#x", got, statusCtrlC)
		}
		open()
		checkValue(t, name, 1)
	})
}

func TestForwardEndsCommandThatMissedCtrlC(t *testing.T) {
	args := helperCommand(t, "stay")
	cmd := exec.Command(args[0], args[1:]...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	forward(cmd.Process, os.Interrupt)
	cmd.Wait()
	if got := uint32(cmd.ProcessState.ExitCode()); got != statusCtrlC {
		t.Errorf("status = %#x, want %#x", got, statusCtrlC)
	}
}

func TestNoForkIsNotSupported(t *testing.T) {
	got := run(t, "run", "-F", newName(t), "-c", "echo ran")
	if got.status != statusUnavailable || got.stdout != "" || !isOneLine(got.stderr) || !strings.Contains(got.stderr, "--no-fork") {
		t.Errorf("got %+v, want status %d and a line that names --no-fork", got, statusUnavailable)
	}
}

// Commands are searched for as by cmd.exe: in the current directory first, and with the
// extensions of PATHEXT.
func TestCommandIsFoundAsByShell(t *testing.T) {
	dir := tempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "procsem-test-batch.cmd"), []byte("@echo %1\r\n@exit /b 5\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"procsem-test-batch", "procsem-test-batch.cmd", `.\procsem-test-batch`, filepath.Join(dir, "procsem-test-batch")} {
		cmd := procsemCommand(t, "run", newName(t), "--", command, "hello")
		cmd.Dir = dir
		if got := runCmd(t, cmd); got != (outcome{status: 5, stdout: "hello\n"}) {
			t.Errorf("%s: %+v", command, got)
		}
	}
}

func TestNoBackground(t *testing.T) {
	name := newName(t)
	if got := run(t, "run", "--bg", name, "-c", "exit 0"); got.status != statusUnavailable || !isOneLine(got.stderr) || !strings.Contains(got.stderr, "start /b") {
		t.Errorf("got %+v, want status %d", got, statusUnavailable)
	}
}
