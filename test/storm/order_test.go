//go:build (unix && !aix && !filelock_fcntl) || windows

// Order: processes wait for the same permits again and again, each in its turn, while some are
// killed. How many that came later get a permit before a waiter?

package storm_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// Each worker is a witness. Before it calls Wait it notes the waiters in the line. At the end of
// its hold it looks which of them still wait: these it has overtaken, for they had their tickets
// before it called Wait. A process that is known to be dead is not in the line.

// mostOvertakers is how many may overtake one waiter. Whoever comes later takes a permit only if
// one is left for each waiter in the line before it, except where a waiter is late, and except for
// a newcomer that finds the flag ordered clear. So a waiter is overtaken in three cases.
//
//   - A permit is left for it. Then it was called, and if it has looked since it has the permit.
//     If not, its entry says at the end of the hold that it is called: the overtaker
//     does not count it. So it does not matter how long the machine keeps it from running.
//   - A waiter is late. Then those go first that are awake. The line says so when Wait returns,
//     and the overtaker counts nobody.
//   - A newcomer finds the flag clear. It holds its permit for far longer than the millisecond
//     after which the flag is due. It counts the one that it has overtaken only if that is not
//     called; so when it gives the permit back right after, it calls that one, or one before it,
//     and sets the flag. Then no further newcomer passes. Before that, each permit is taken once
//     by a newcomer, which makes as many as the limit.
//
// One more may pass where it comes between two steps of a process: after a giver has freed its
// permit, before it sets the flag (it may die there); after one that leaves has found the line
// empty, before it clears the flag; after a permit was taken past a waiter that is late, before
// Wait returns, if the late one looks there. These are a few instructions, or as long as the machine
// stops the process between them. mostCoincidences is how often one waiter may meet with that.
func mostOvertakers(limit int) int { return limit + mostCoincidences }

const mostCoincidences = 5

const (
	shortestHold = 20 * time.Millisecond // times the limit; the longest is three times that
	killPause    = 80 * time.Millisecond
)

// A line is what the table says of waiters (docs/recovery.md), and which wait each of them is in.
type line struct {
	table    *permits.Table
	entries  *[permits.MaxSlots]atomic.Uint64
	words    *[permits.MaxPermits + 1]atomic.Uint64
	slots    unsafe.Pointer
	live     uintptr // where it is in a slot
	calledAt uintptr

	// waits is a file with a number for each slot, which names the wait that its owner is in; 0
	// if it is in none. No number is used twice.
	waits *os.File
}

// An entry is 0, or a ticket and these bits.
const (
	entryCalled  = 1 << 0
	entryJoining = 1 << 1 // no ticket
	entryPolls   = 1 << 2
	entryIdle    = 1 << 3
)

// How long ago a waiter was called, or has looked if it polls, that is late; a little less, since
// clocks differ.
const (
	lateCalled = 95 * time.Millisecond
	latePolls  = 950 * time.Millisecond
)

func openLine(s *semaphore.Semaphore, path string) *line {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	table := Table(s)
	v := reflect.ValueOf(table).Elem()
	slot := v.FieldByName("slots").Type().Elem().Elem()
	at := func(field string) uintptr {
		f, ok := slot.FieldByName(field)
		if !ok {
			panic("a slot has no " + field)
		}
		return f.Offset
	}
	return &line{
		table:    table,
		entries:  (*[permits.MaxSlots]atomic.Uint64)(v.FieldByName("line").UnsafePointer()),
		words:    (*[permits.MaxPermits + 1]atomic.Uint64)(v.FieldByName("words").UnsafePointer()),
		slots:    v.FieldByName("slots").UnsafePointer(),
		live:     at("live"),
		calledAt: at("calledAt"),
		waits:    f,
	}
}

func (l *line) slot(s int) unsafe.Pointer { return unsafe.Add(l.slots, s*permits.SlotSize) }

// numbers returns the numbers of the waits, by slot.
func (l *line) numbers() []int64 {
	b := make([]byte, 8*l.table.Slots())
	n, err := l.waits.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		panic(err)
	}
	all := make([]int64, n/8)
	if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, all); err != nil {
		panic(err)
	}
	return all
}

func (l *line) setNumber(slot int, n int64) {
	if _, err := l.waits.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(n)), int64(8*slot)); err != nil {
		panic(err)
	}
}

// at returns a slot's entry, and whether a waiter is there that has its ticket and is not known to be dead.
func (l *line) at(s int) (entry uint64, waits bool) {
	entry = l.entries[s].Load()
	live := (*atomic.Uint32)(unsafe.Add(l.slot(s), l.live)).Load()
	return entry, entry != 0 && entry&(entryJoining|entryIdle) == 0 && live&futex.OwnerDied == 0
}

// waiting returns the numbers of the waits in the line, by slot. The numbers are read first: if one is
// still the same later, what the line said in between was about that wait.
func (l *line) waiting() map[int]int64 {
	there := make(map[int]int64)
	for s, n := range l.numbers() {
		if _, waits := l.at(s); waits && n != 0 {
			there[s] = n
		}
	}
	return there
}

// anyLate reports whether a waiter is late. The time is read first: a waiter that is called anew
// meanwhile may have been late until then.
func (l *line) anyLate() bool {
	for s := range l.table.Slots() {
		ago := time.Now().UnixNano() - (*atomic.Int64)(unsafe.Add(l.slot(s), l.calledAt)).Load()
		switch entry, waits := l.at(s); {
		case !waits:
		case entry&entryPolls != 0 && ago > int64(latePolls), entry&(entryPolls|entryCalled) == entryCalled && ago > int64(lateCalled):
			return true
		}
	}
	return false
}

// overtaken returns those of the waits that are still in the line, and are not called. A waiter that
// takes a permit has that while it is in the line, and later changes its number. So the line is
// read first, then who has permits, then the numbers.
func (l *line) overtaken(before map[int]int64) (waits []string) {
	for s := range before {
		if entry, waits := l.at(s); !waits || entry&entryCalled != 0 {
			delete(before, s)
		}
	}
	for i := range stormLimit {
		if w := l.words[i].Load(); w != 0 {
			delete(before, int(w>>48))
		}
	}
	for s, n := range l.numbers() {
		if n != 0 && before[s] == n {
			waits = append(waits, fmt.Sprintf("%d/%d", s, n))
		}
	}
	return waits
}

// orderMain is a worker of TestStormOfWaiters. Its arguments are the semaphore's name, and the path
// of the numbers. It prints whom it has overtaken, each time.
func orderMain(args []string) int {
	check := func(err error) {
		if err != nil {
			fmt.Printf("violation: %v\n", err)
			os.Exit(9)
		}
	}
	s, err := semaphore.Open(args[0], semaphore.WithRecovery(true), semaphore.WithCreate(false))
	check(err)
	limit, err := s.Limit()
	check(err)
	l, own := openLine(s, args[1]), testhook.Inspect(s).Backend.(engine.Recoverable).Owner().Slot()
	pause := func() { time.Sleep(time.Duration(limit) * (shortestHold + rand.N(2*shortestHold))) }
	var finish atomic.Bool
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		finish.Store(true)
	}()
	for !finish.Load() {
		before := l.waiting()
		l.setNumber(own, time.Now().UnixNano())
		check(s.Wait())
		late := l.anyLate()
		l.setNumber(own, 0)
		pause()
		for l.entries[own].Load() != 0 {
			// The server of this wait has not left the line yet. Others would take its entry for one
			// of the next wait.
			time.Sleep(time.Millisecond)
		}
		if overtaken := l.overtaken(before); late {
			fmt.Println("late")
		} else {
			fmt.Println("overtook", strings.Join(overtaken, " "))
		}
		check(s.Post())
		if rand.IntN(12) == 0 {
			pause()
		}
	}
	check(s.Close())
	return 0
}

func TestStormOfWaiters(t *testing.T) {
	UseHelper("order")
	needSpeed(t)
	for _, limit := range []int{1, stormLimit} {
		t.Run(fmt.Sprint("limit ", limit), func(t *testing.T) {
			t.Parallel() // they sleep most of the time
			testOrder(t, limit)
		})
	}
}

func testOrder(t *testing.T, limit int) {
	s := Open(t, UniqueName(t), semaphore.EngineRecoverable, semaphore.WithValue(limit))
	path := filepath.Join(TempDir(t), "waits")
	start := func(number int) *victim {
		cmd := Helper(t, "order", s.Name(), path)
		cmd.Env = append(cmd.Env, NetVariable+"=on")
		v := startVictim(t, number, cmd)
		t.Cleanup(func() {
			v.in.Close()
			v.cmd.Process.Kill()
			v.cmd.Wait()
		})
		return v
	}
	var workers []*victim
	for i := range stormWorkers {
		workers = append(workers, start(i))
	}

	witnesses, late, most := 0, 0, 0
	overtakers := make(map[string]int) // of each wait
	hear := func(line string) {
		what, overtaken, _ := strings.Cut(line, " ")
		switch what {
		case "violation:":
			t.Error(line)
		case "late":
			late++
		case "overtook":
			witnesses++
			for _, wait := range strings.Fields(overtaken) {
				overtakers[wait]++
				most = max(most, overtakers[wait])
			}
		}
	}
	pause := time.NewTicker(killPause)
	defer pause.Stop()
	for n := 0; n < kills()/20 && most <= mostOvertakers(limit) && !t.Failed(); n++ {
		<-pause.C
		i := rand.IntN(len(workers))
		if holder := slices.IndexFunc(workers, func(v *victim) bool { return holds(s, v) }); holder >= 0 && n%4 == 0 {
			i = holder
		}
		Must(t, workers[i].cmd.Process.Kill())
		for line := range workers[i].said {
			hear(line)
		}
		workers[i].cmd.Wait()
		workers[i] = start(i)
		for _, v := range workers {
			for len(v.said) > 0 {
				hear(<-v.said)
			}
		}
	}
	for _, v := range workers {
		fmt.Fprintln(v.in)
	}
	deadline := time.After(*stormPatience)
	for _, v := range workers {
		for open := true; open; {
			var line string
			select {
			case line, open = <-v.said:
				hear(line)
			case <-deadline:
				t.Fatalf("worker %d sleeps on: %d of %d permits are free, %d waiters are counted",
					v.number, value(t, s), limit, Table(s).Waiters())
			}
		}
		if err := v.cmd.Wait(); err != nil {
			t.Errorf("a worker ended: %v", err)
		}
	}
	if most > mostOvertakers(limit) {
		t.Errorf("a waiter was overtaken by %d that came later, allowed are %d", most, mostOvertakers(limit))
	}
	t.Logf("%d got a permit, and %d while a waiter was late; at most %d overtook the same waiter", witnesses, late, most)
}

// holds reports whether a worker has a permit.
func holds(s *semaphore.Semaphore, v *victim) bool {
	return slices.ContainsFunc(Table(s).Holders(), func(h permits.Holder) bool {
		return h.PID == v.cmd.Process.Pid && h.Permits > 0
	})
}
