package command

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
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

// show tells of procsem run the command, its process and the numbers of the permits; holders come in the order of
// their times.
func TestShowTellsWhatRuns(t *testing.T) {
	name, dir := newName(t), t.TempDir()
	first, firstCommand := startHolder(t, name, filepath.Join(dir, "1"), "-n", "4", "-k", "3")
	second, secondCommand := startHolder(t, name, filepath.Join(dir, "2"))
	waiter := procsemCommand(t, "run", "-k", "2", name, "-c", "exit  3")
	start(t, waiter)
	eventually(t, "it waits", func() bool { return len(shown(t, name).Waiters) == 1 })
	v := shown(t, name)
	if len(v.Holders) != 2 || v.Holders[0].PID != first.Process.Pid || v.Holders[1].PID != second.Process.Pid {
		t.Fatalf("holders: %+v", v.Holders)
	}
	for i, want := range []struct {
		child   int
		numbers []int
		file    string
	}{{firstCommand, []int{0, 1, 2}, "1"}, {secondCommand, []int{3}, "2"}} {
		h := v.Holders[i]
		command := strings.Join(helperCommand(t, "hold", filepath.Join(dir, want.file)), " ")
		if !slices.Equal(h.Numbers, want.numbers) || h.Child == nil || h.Child.PID != want.child || h.Child.Command != command || h.Run != command {
			t.Errorf("holder %d: %+v", i, h)
		}
	}
	if w := v.Waiters[0]; w.Run != "exit  3" || w.Child != nil || w.Arrived.IsZero() || w.Place != 1 || w.Numbers != nil {
		t.Errorf("the waiter: %+v", w)
	}
	text := run(t, "show", name).stdout
	for pid, want := range map[int]string{first.Process.Pid: "0-2", second.Process.Pid: "3"} {
		if got := cell(t, text, pid, "PERMIT"); got != want {
			t.Errorf("PERMIT of %d: %s, want %s in\n%s", pid, got, want, text)
		}
		if got := cell(t, text, pid, "WAITED"); got != "0s" {
			t.Errorf("WAITED of %d: %s, want 0s in\n%s", pid, got, text)
		}
		if got := cell(t, text, pid, "HELD"); strings.HasPrefix(got, "<") || got == "-" {
			t.Errorf("HELD of %d: %s, want a time in\n%s", pid, got, text)
		}
	}
}

// Of a permit that was taken for a descriptor the time is known, too.
func TestShowTellsSinceWhenADescriptorHolds(t *testing.T) {
	needByteLocks(t)
	name, s := newRecoverable(t, 1)
	f, err := os.OpenFile(fileOfName(t, name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := s.TryAcquire()
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.HandTo(p, f, os.Getpid()); err != nil {
		t.Fatal(err)
	}
	text := run(t, "show", name).stdout
	if got := cell(t, text, os.Getpid(), "HELD"); strings.HasPrefix(got, "<") || got == "-" {
		t.Errorf("HELD: %s in\n%s", got, text)
	}
}

// Of a bare count show and unlink tell which processes have it open: by their memory, or by a descriptor.
func TestShowOfBareCountTellsWhoHasItOpen(t *testing.T) {
	needed := map[semaphore.Engine]func(t *testing.T, name string) (pid int, end func()){
		semaphore.EngineNative: func(t *testing.T, name string) (int, func()) {
			cmd, command := startHolder(t, name, filepath.Join(t.TempDir(), "held"), "--posix")
			return cmd.Process.Pid, func() {
				kill(t, command)
				wait(t, cmd)
			}
		},
		semaphore.EngineFlock: func(t *testing.T, name string) (int, func()) {
			s, err := semaphore.Open(name, semaphore.WithEngine(semaphore.EngineFlock))
			if err != nil {
				t.Fatal(err)
			}
			return os.Getpid(), func() { s.Close() }
		},
	}
	for e, open := range needed {
		t.Run(e.String(), func(t *testing.T) {
			if registered(e) == nil {
				t.Skipf("not in this build: engine %v", e)
			}
			name := newName(t)
			pid, end := open(t, name)
			if v := shown(t, name); len(v.OpenIn) != 1 || v.OpenIn[0].PID != pid {
				t.Errorf("it is open: %+v", v.OpenIn)
			}
			text := run(t, "show", name).stdout
			if !regexp.MustCompile(`\nOPEN IN  USER +COMMAND\n`+strconv.Itoa(pid)+" ").MatchString(text) || !strings.HasSuffix(text, "\n\n"+barely+"\n") {
				t.Errorf("it is open:\n%s", text)
			}
			if got := run(t, "unlink", name); got.status != statusTempFail || !strings.Contains(got.stderr, fmt.Sprintf("is in use: open in %d (", pid)) {
				t.Errorf("unlink: %+v", got)
			}
			end()
			if v := shown(t, name); v.OpenIn == nil || len(v.OpenIn) > 0 {
				t.Errorf("nobody has it open: %+v", v.OpenIn)
			}
			if got := run(t, "unlink", name); got != (outcome{}) {
				t.Errorf("unlink: %+v", got)
			}
		})
	}
}
