package proc_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/proc"
)

func TestLook(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	after := time.Now()
	p, err := proc.Look(cmd.Process.Pid)
	started := p.StartedAt(before) || p.StartedAt(after) || p.Started.After(before) && p.Started.Before(after)
	if err != nil || p.PID != cmd.Process.Pid || !strings.Contains(p.Command, "cat") || p.User == "" || !started {
		t.Errorf("cat, started between %v and %v: %+v, %v", before, after, p, err)
	}
	if p.StartedAt(before.Add(-time.Minute)) {
		t.Error("it is taken for a process that started a minute earlier")
	}
	in.Close()
	// cat is a zombie before it is waited for, and then gone.
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		if _, err = proc.Look(cmd.Process.Pid); err != nil || time.Since(start) > 20*time.Second {
			break
		}
	}
	if !errors.Is(err, proc.ErrGone) {
		t.Errorf("cat, which has ended: %v", err)
	}
	cmd.Wait()
	if _, err := proc.Look(cmd.Process.Pid); !errors.Is(err, proc.ErrGone) {
		t.Errorf("cat, which was waited for: %v", err)
	}
}

func TestLocksOf(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	again, err := os.Open(f.Name()) // without the lock
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for _, at := range []int64{1000, 1001} { // one lock to the kernel
		if locked, err := filelock.TryLockByte(f, at); !locked {
			t.Fatal(err)
		}
	}
	start := func(inherited *os.File) int {
		t.Helper()
		cmd := exec.Command("cat")
		cmd.ExtraFiles = []*os.File{inherited}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close(); cmd.Wait() })
		return cmd.Process.Pid
	}
	heir := start(f)
	start(again)
	locks, err := proc.LocksOf(again, 2000)
	if err != nil {
		t.Fatal(err)
	}
	owners := locks.Owners()
	want := []int{os.Getpid(), heir}
	slices.Sort(want)
	for at, want := range map[int64][]int{999: nil, 1000: want, 1001: want, 1002: nil} {
		if got := owners.Of(at); !slices.Equal(got, want) {
			t.Errorf("owners %v of byte %d, want %v", got, at, want)
		}
	}
	held, err := locks.HeldBy(heir)
	if err != nil || held.Has(999) || !held.Has(1000) || !held.Has(1001) || held.Has(1002) {
		t.Errorf("the heir has the locks of %v, %v, want 1000 and 1001", held, err)
	}
	if id := proc.OwnID(heir); id != heir {
		t.Errorf("process %d sees itself as %d", heir, id)
	}
}
