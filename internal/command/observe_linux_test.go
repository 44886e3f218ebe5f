package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/proc"
	"golang.org/x/sys/unix"
)

// lineOf returns the line of list about a recoverable semaphore.
func lineOf(t *testing.T, name string) summary {
	t.Helper()
	got := run(t, "list", "--json")
	var lines []summary
	if err := json.Unmarshal([]byte(got.stdout), &lines); err != nil || got.status != 0 {
		t.Fatalf("%v, %+v", err, got)
	}
	for _, l := range lines {
		if l.Name == name && l.Kind == kindRecoverable {
			return l
		}
	}
	t.Fatalf("%s is not in the list", name)
	return summary{}
}

// Looking changes no byte of the file: no slot is claimed, and what a dead holder left is
// shown as free but not given back.
func TestLookingChangesNothing(t *testing.T) {
	name := newName(t)
	holder, command := startHolder(t, name, filepath.Join(t.TempDir(), "held"), "--close")
	kill(t, holder.Process.Pid)
	wait(t, holder)
	kill(t, command)
	before, err := os.ReadFile(fileOfName(t, name))
	if err != nil {
		t.Fatal(err)
	}
	checkPrinted(t, name, 1)
	if v := shown(t, name); *v.Free != 1 || len(v.Holders) != 0 {
		t.Errorf("show: %+v, %d free", v, *v.Free)
	}
	if l := lineOf(t, name); l.Error != "" || *l.Free != 1 || *l.Holders != 0 {
		t.Errorf("list: %+v", l)
	}
	after, err := os.ReadFile(fileOfName(t, name))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Error("value, show and list have changed the file")
	}
}

// checkPrinted checks what the command prints; checkValue asks the library.
func checkPrinted(t *testing.T, name string, want int) {
	t.Helper()
	if got := run(t, "value", name); got.status != 0 || got.stdout != fmt.Sprintln(want) {
		t.Errorf("value: %+v, want %d", got, want)
	}
}

// fill makes a table full, in which one handle is open, as if each of the other slots had a
// living owner, and returns what frees one slot.
func fill(t *testing.T, name string) (free func()) {
	t.Helper()
	f, err := os.OpenFile(fileOfName(t, name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	const first = permits.SlotByte + 1
	if _, err := filelock.ByteLocked(f, first, 1); err == nil {
		for at := int64(first); at < permits.SlotByte+permits.MaxSlots; at++ {
			if locked, err := filelock.TryLockByte(f, at); !locked {
				t.Fatal(err)
			}
		}
		return func() {
			if err := filelock.UnlockByte(f, first); err != nil {
				t.Fatal(err)
			}
		}
	}
	var last *semaphore.Semaphore // where each slot has a lock file
	for {
		s, err := semaphore.Open(name, semaphore.WithRecovery(true))
		if errors.Is(err, semaphore.ErrTableFull) {
			return func() { last.Close() }
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		last = s
	}
}

// A full table keeps nobody from looking.
func TestLookingAtAFullTable(t *testing.T) {
	name, s := newRecoverable(t, 1)
	fill(t, name)
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	checkPrinted(t, name, 0)
	cmd := procsemCommand(t, "run", "-v", name, "--", "true")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	placed(t, readLines(stderr), `procsem: `+name+`: waiting until fewer processes have it open, for `+aTime+`; held by \d+ .*`)
	if got := run(t, "show", name); got.status != 0 || !strings.Contains(got.stdout, fmt.Sprintf("\n%d ", os.Getpid())) {
		t.Errorf("show: %+v", got)
	}
	if l := lineOf(t, name); l.Error != "" || *l.Holders != 1 {
		t.Errorf("list: %+v", l)
	}
}

// What takes no permit needs no slot of a full table. Most of all resize: where all 4096 wait
// for a permit, a higher limit may be what makes a slot free.
func TestCommandsOnAFullTable(t *testing.T) {
	name, s := newRecoverable(t, 1)
	defer s.Close()
	fill(t, name)
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- s.Wait() }()
	for start := time.Now(); len(shown(t, name).Waiters) == 0; {
		if time.Since(start) > deadline {
			t.Fatal("nobody waits")
		}
	}
	roundTrip(t, name, []step{
		{"create", 0, "", "exists: its limit is 1,"},
		{"create -n 1", 0, "", "exists: its limit is 1,"},
		{"create -n 2", statusConfig, "", "procsem resize"},
		{"create -x", statusCantCreate, "", "exists"},
		{"run -n 2 -c exit", statusConfig, "", "procsem resize"},
		{"create --posix", statusDataErr, "", "omit --posix"},
		{"post", statusDataErr, "", "recoverable semaphore"},
		{"try", statusDataErr, "", "recoverable semaphore"},
	})
	if got := run(t, "resize", name, "2"); got.status != 0 {
		t.Errorf("resize: %+v", got)
	}
	select {
	case err := <-waiting:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(deadline):
		t.Fatal("the waiter was not notified of the higher limit")
	}
	if limit, err := s.Limit(); limit != 2 || err != nil {
		t.Errorf("limit %d, %v, after resize to 2", limit, err)
	}
	roundTrip(t, name, []step{
		{"create -n 1", 0, "", "exists: its limit is 2,"}, // resize's stands
		{"unlink", statusTempFail, "", "is in use"},
		{"unlink -f", 0, "", ""},
		{"show", statusNoInput, "", "no such semaphore"},
	})
}

// resize is no user of the semaphore: beside it run -n may change the limit of an idle one.
func TestResizeClaimsNoSlot(t *testing.T) {
	name, s := newRecoverable(t, 3)
	s.Close()
	before, err := os.ReadFile(fileOfName(t, name))
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, "resize", name, "2"); got.status != 0 {
		t.Fatalf("resize: %+v", got)
	}
	after, err := os.ReadFile(fileOfName(t, name))
	if err != nil {
		t.Fatal(err)
	}
	const slots, limit, limitEnd = 4096, 64, 72 // docs/recovery.md
	if bytes.Equal(before[limit:limitEnd], after[limit:limitEnd]) {
		t.Error("the limit is what it was")
	}
	if !bytes.Equal(before[slots:], after[slots:]) {
		t.Error("resize has changed the slots or the permits")
	}
}

// run waits for a slot of a full table as for a permit.
func TestRunWaitsForASlot(t *testing.T) {
	name, s := newRecoverable(t, 1)
	defer s.Close()
	free := fill(t, name)
	for _, patience := range []string{"0", "0.1"} {
		if got := run(t, "run", "-w", patience, name, "--", "true"); got.status != statusTempFail || !strings.Contains(got.stderr, "4096 handles") {
			t.Errorf("run -w %s: %+v, want status %d", patience, got, statusTempFail)
		}
	}
	// It has to have found the table full before a slot becomes free. Each try opens the file
	// twice.
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	opened := os.NewFile(uintptr(watch), "inotify")
	defer opened.Close()
	if _, err := unix.InotifyAddWatch(watch, fileOfName(t, name), unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	cmd := procsemCommand(t, "run", "-w", "60", name, "--", "true")
	start(t, cmd)
	opened.SetReadDeadline(time.Now().Add(deadline))
	for opens, event := 0, make([]byte, unix.SizeofInotifyEvent); opens < 5; opens++ {
		if _, err := opened.Read(event); err != nil {
			t.Fatalf("run has opened the file %d times: %v", opens, err)
		}
	}
	free()
	if got := wait(t, cmd); got.status != 0 {
		t.Errorf("run -w 60, and then a slot becomes free: %+v", got)
	}
}

// Beside holders that come and go, permits that are free and those of holders add up.
func TestShowIsOnePicture(t *testing.T) {
	name, s := newRecoverable(t, 1)
	defer s.Close()
	over := make(chan struct{})
	var users sync.WaitGroup
	defer users.Wait()
	defer close(over)
	for range 3 {
		users.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if got := run(t, "run", name, "--", "true"); got.status != 0 {
					t.Errorf("run: %+v", got)
				}
			}
		})
	}
	for range 30 {
		v := shown(t, name)
		held := 0
		for _, h := range v.Holders {
			held += h.Permits
		}
		if held+*v.Free != *v.Limit {
			t.Errorf("free %d, held %d, limit %d: %+v", *v.Free, held, *v.Limit, v)
		}
	}
}

// While the holders' own processes are there, show looks at no other process.
func TestShowLooksAtHoldersAlone(t *testing.T) {
	name, file := newName(t), filepath.Join(t.TempDir(), "held")
	holder, _ := startHolder(t, name, file)
	scans := 0
	ownersOf = func(l *proc.Locks) proc.Owners {
		scans++
		return l.Owners()
	}
	defer func() { ownersOf = (*proc.Locks).Owners }()
	v, err := viewOf(name)
	if err != nil || len(v.Holders) != 1 || v.Holders[0].State != stateRunning || v.Holders[0].PID != holder.Process.Pid {
		t.Errorf("%+v, %v", v, err)
	}
	if scans != 0 {
		t.Errorf("it has looked at all processes %d times", scans)
	}
}

// However many handles a process has, show looks at its descriptors once.
func TestShowLooksAtAProcessOnce(t *testing.T) {
	name, s := newRecoverable(t, 3)
	defer s.Close()
	for _, err := range []error{s.Wait(), s.Wait()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	another, err := semaphore.Open(name, semaphore.WithRecovery(true))
	if err != nil {
		t.Fatal(err)
	}
	defer another.Close()
	if err := another.Wait(); err != nil {
		t.Fatal(err)
	}
	looks := 0
	locksHeldBy = func(l *proc.Locks, pid int) (proc.Bytes, error) {
		looks++
		return l.HeldBy(pid)
	}
	defer func() { locksHeldBy = (*proc.Locks).HeldBy }()
	v, err := viewOf(name)
	// Each handle is seen by its own lock.
	if err != nil || len(v.Holders) != 2 || v.Holders[0].State != stateRunning || v.Holders[1].State != stateRunning {
		t.Errorf("%+v, %v", v, err)
	}
	if looks > 1 {
		t.Errorf("it has looked at the process's descriptors %d times", looks)
	}
}

// list, show and value wait for no lock of others, whoever they are.
func TestLookingWaitsForNoLock(t *testing.T) {
	name, s := newRecoverable(t, 1)
	defer s.Close()
	f, err := os.OpenFile(fileOfName(t, name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stranger(t, f.Name())
	locked, err := filelock.TryLockByte(f, permits.ClaimByte)
	if errors.Is(err, errors.ErrUnsupported) {
		locked, err = filelock.TryLock(f)
	}
	if !locked {
		t.Fatal(err)
	}
	checkPrinted(t, name, 1)
	if l := lineOf(t, name); l.Error != "" || *l.Free != 1 {
		t.Errorf("list: %+v", l)
	}
	if v := shown(t, name); *v.Free != 1 {
		t.Errorf("show: %+v", v)
	}
}

// stranger makes a file another user's, if the test may do that.
func stranger(t *testing.T, path string) {
	t.Helper()
	const other = 65534
	if os.Geteuid() == 0 {
		if err := os.Chown(path, other, other); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever truncates a file, again and again, ends no process that only looks.
func TestLookingAtATruncatedFile(t *testing.T) {
	name, s := newRecoverable(t, 1)
	s.Close()
	path := fileOfName(t, name)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	stranger(t, path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := new(permits.Head).Bytes()
	over := make(chan struct{})
	var user sync.WaitGroup
	defer user.Wait()
	defer close(over)
	user.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			// Whole for about as long as a process needs that opens and maps it.
			_, err := f.WriteAt(content[:len(head)], 0)
			err = errors.Join(err, f.Truncate(int64(len(content))))
			for whole := time.Now(); time.Since(whole) < 300*time.Microsecond; {
			}
			if err = errors.Join(err, f.Truncate(0)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 30 {
		for _, args := range [][]string{{"value", name}, {"show", name}, {"list"}} {
			if got := run(t, args...); got.status != 0 && got.status != statusDataErr {
				t.Errorf("%v: %+v", args, got)
			}
		}
	}
}
