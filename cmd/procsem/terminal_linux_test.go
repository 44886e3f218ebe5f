package main

import (
	"fmt"
	"os"
	"syscall"
	"testing"

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
