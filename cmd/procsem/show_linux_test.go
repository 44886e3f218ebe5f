package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/procsem/semaphore/internal/filelock"
)

// needByteLocks skips the test on systems whose locks show does not find.
func needByteLocks(t *testing.T) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := filelock.ByteLocked(f, 0, 1); err != nil {
		t.Skip("not on this system: OFD locks, by which show finds processes")
	}
}

// For each killed procsem show lists its command, which keeps the permit. The command
// of a procsem that runs is not listed.
func TestShowTellsWhoKeepsPermitsOfTheGone(t *testing.T) {
	needByteLocks(t)
	name, dir := newName(t), t.TempDir()
	var want []handle
	var orphans []int
	for i := range 3 {
		file := filepath.Join(dir, fmt.Sprint("file", i))
		cmd, command := startHolder(t, name, file, "-n", "4")
		h := handle{process: process{PID: cmd.Process.Pid, Command: "run -n 4 " + name}, State: stateRunning, Permits: 1}
		if i != 1 {
			kill(t, cmd.Process.Pid)
			wait(t, cmd)
			orphans = append(orphans, command)
			h.Command, h.State = "", stateGone
			h.KeptBy = []process{{PID: command, Command: file}}
		}
		want = append(want, h)
	}
	checkView(t, view{Name: name, Kind: kindRecoverable, Limit: ptr(4), Free: ptr(1), Holders: want, Waiters: []handle{}}, shown(t, name))
	text := run(t, "show", name).stdout
	for _, want := range []string{"(gone; these still have its lock:)", fmt.Sprintf("\n  %d ", orphans[0]), filepath.Join(dir, "file2")} {
		if !strings.Contains(text, want) {
			t.Errorf("show: no %q in\n%s", want, text)
		}
	}
	for _, pid := range orphans {
		kill(t, pid)
	}
	eventually(t, "their permits are back", func() bool { return len(shown(t, name).Holders) == 1 })
	checkValue(t, name, 3)
}

// A zombie, a killed process that was not waited for, is shown as gone. The handle of
// show itself is not shown, as it neither holds nor waits.
func TestShowOfZombie(t *testing.T) {
	needByteLocks(t)
	name, file := newName(t), filepath.Join(t.TempDir(), "held")
	cmd, command := startHolder(t, name, file)
	kill(t, cmd.Process.Pid)
	eventually(t, "it is seen to be gone", func() bool {
		hs := shown(t, name).Holders
		return len(hs) == 1 && hs[0].State == stateGone && len(hs[0].KeptBy) == 1 && hs[0].KeptBy[0].PID == command
	})
	kill(t, command)
	wait(t, cmd)
}

// needNamespaces skips the test where processes can't get a pid namespace.
func needNamespaces(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("missing: root")
	}
	probe := exec.Command("true")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := probe.Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("missing: namespaces: %v", err)
	}
}

// A holder in another pid namespace is found by its lock, and shown with the id that it
// has in ours.
func TestShowOfOtherPidNamespace(t *testing.T) {
	needNamespaces(t)
	needByteLocks(t)
	name, file := newName(t), filepath.Join(t.TempDir(), "held")
	cmd := procsemCommand(t, append([]string{"run", "-F", name, "--"}, helperCommand(t, "hold", file)...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: syscall.CLONE_NEWPID}
	start(t, cmd)
	readLines(out).want(t, "1")
	checkView(t, view{
		Name: name, Kind: kindRecoverable, Limit: ptr(1), Free: ptr(0), Waiters: []handle{},
		Holders: []handle{{process: process{PID: cmd.Process.Pid, Command: file}, State: stateRunning, Permits: 1}},
	}, shown(t, name))
}
