//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

// A table that is written over while it is in use. Its permits may be lost or given twice;
// but nobody spins.

package recoverable_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// A damage is a word of 8 bytes that was written over, twice.
type damage struct {
	at    int64
	value [2]uint64
}

func init() { helpers["waiters"] = waitersMain }

// waitersMain is the helper "waiters": a process that opens several semaphores, with as
// many handles each as its first argument says. It waits with all of them when it reads the line "wait",
// and gives back what it gets when it has read "release".
// Each time that it reads another one it prints how much processor time it has used, in ns.
func waitersMain(args []string) int {
	var handles int
	fmt.Sscan(args[0], &handles)
	var all []*semaphore.Semaphore
	for _, name := range args[1:] {
		for range handles {
			s, err := semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithCreate(false))
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			all = append(all, s)
		}
	}
	fmt.Println("ok")
	released := make(chan struct{})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch lines.Text() {
		case "release":
			close(released)
			fmt.Println("ok")
			continue
		case "wait":
			for i, s := range all {
				go func() {
					// More than once, if the damage gives it a permit.
					for range 3 {
						if i%handles == handles-1 {
							p, _ := s.AcquireN(context.Background(), semaphore.All)
							<-released
							p.Release()
						} else {
							s.Wait()
							<-released
							s.Post()
						}
					}
				}()
			}
			fmt.Println("ok")
			continue
		}
		var used unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println(used.Utime.Nano() + used.Stime.Nano())
	}
	return 0
}

// openWaiters starts the helper, and returns when it has opened its handles.
func openWaiters(t testing.TB, handles int, of []*semaphore.Semaphore) *Actor {
	args := []string{fmt.Sprint(handles)}
	for _, s := range of {
		args = append(args, s.Name())
	}
	cmd := Helper(t, "waiters", args...)
	cmd.Env = append(cmd.Env, NetVariable+"=on")
	a := StartActorCommand(t, "waiters", cmd)
	if got := a.Answer(); got != "ok" {
		t.Fatal(got)
	}
	return a
}

// startWaiters starts the helper, and returns when it waits with each of its handles.
func startWaiters(t testing.TB, handles int, of []*semaphore.Semaphore) *Actor {
	a := openWaiters(t, handles, of)
	a.OK("wait")
	for _, s := range of {
		WaitFor(t, "waiters", func() bool {
			n := 0
			for _, h := range Table(s).Holders() {
				if h.PID == a.Cmd.Process.Pid && h.Waits && h.Doing == permits.Waiting {
					n++
				}
			}
			return n == handles
		})
	}
	return a
}

// The tables of the damages' semaphores have six slots: of the test, which has the only
// permit, of two waiters, of two that begin to wait after the damage, and of a waiter that was killed.
const damagedSlots = 6

// waitingCosts returns what part of a processor a process uses that waits on semaphores,
// each of which has one of the damages: two handles on each of them, and as many of another process
// that begins to wait when the damage is done.
func waitingCosts(t testing.TB, damages []damage) float64 {
	var all []*semaphore.Semaphore
	for range damages {
		s := Open(t, UniqueName(t), Recoverable, semaphore.WithValue(1))
		Must(t, s.Wait())
		all = append(all, s)
	}
	waiters := []*Actor{startWaiters(t, 2, all), openWaiters(t, 2, all)}
	dead := startWaiters(t, 1, all)
	Must(t, dead.Cmd.Process.Kill())
	dead.Cmd.Wait()
	defer func() {
		for _, a := range waiters {
			a.Cmd.Process.Kill() // before the semaphores are closed
			a.Cmd.Wait()
		}
	}()
	owners := func(do func(o *permits.Owner)) {
		for _, s := range all {
			do(testhook.Inspect(s).Backend.(engine.Recoverable).Owner())
		}
		// Until every waiter's safety net has looked, too.
		time.Sleep(engine.SafetyNet + 100*time.Millisecond)
	}
	for n := range damages[0].value {
		for i, d := range damages {
			f, err := os.OpenFile(StoreFile(Recoverable, all[i].Name()), os.O_RDWR, 0)
			Must(t, err)
			var word [8]byte
			binary.NativeEndian.PutUint64(word[:], d.value[n])
			_, err = f.WriteAt(word[:], d.at)
			Must(t, err)
			Must(t, f.Close())
		}
		if n == 0 {
			waiters[1].OK("wait")
		}
		owners(func(o *permits.Owner) { o.Notify(1) }) // let waiters look at what is there now
	}
	used := func() (sum int64) {
		for _, a := range waiters {
			var ns int64
			a.Send("")
			fmt.Sscan(a.Answer(), &ns)
			sum += ns
		}
		return sum
	}
	// One that spins goes on with it; what others still have to do ends.
	costs := func() (least float64) {
		least = math.Inf(1)
		for looks := 0; looks < 4 && least >= maxWaitingCosts; looks++ {
			start, before := time.Now(), used()
			time.Sleep(500 * time.Millisecond)
			least = min(least, float64(used()-before)/float64(time.Since(start).Nanoseconds()))
		}
		return least
	}
	beforeGiving := costs()
	for _, a := range waiters {
		a.OK("release")
	}
	owners(func(o *permits.Owner) { o.Give() }) // if it is still there
	return max(beforeGiving, costs())
}

// damagesOf returns the damages of a table in use: odd values in each of the words that
// anything is in, and then others.
func damagesOf() (ds []damage) {
	const head, line, slots, words = 320, 4096, permits.SlotsAt, permits.Size - (permits.MaxPermits+1)*8
	random := rand.New(rand.NewPCG(14, 4))
	for _, part := range []permits.Range{
		{From: 0, To: head}, {From: line, To: line + damagedSlots*8},
		{From: slots, To: slots + damagedSlots*permits.SlotSize}, {From: words, To: words + 2*8},
	} {
		for at := part.From; at < part.To; at += 8 {
			odd := []uint64{0, 1 << 62, 0x8000_0001_8000_0001, 1<<64 - 1, random.Uint64()}
			for i, value := range odd {
				ds = append(ds, damage{at, [2]uint64{value, odd[(i+2)%len(odd)]}})
			}
		}
	}
	random.Shuffle(len(ds), func(i, j int) { ds[i], ds[j] = ds[j], ds[i] })
	return ds
}

func needsProcessorTime(t testing.TB) {
	t.Helper()
	UseHelper("waiters")
	if Emulated() {
		t.Skip("on an emulator: how much processor time waiting takes")
	}
}

// maxWaitingCosts is the part of a processor that a process may use while it waits. One
// that spins uses a whole one.
const maxWaitingCosts = 0.05

// Whatever word of a table in use is written over, and with what, waiting costs next to
// nothing. The waiters of many damages are in one process, and only if they are too dear
// together is the culprit looked for.
func TestDamageMakesNobodySpin(t *testing.T) {
	needsProcessorTime(t)
	var mu sync.Mutex
	var culprits []string
	var examine func(damages []damage)
	examine = func(damages []damage) {
		mu.Lock()
		enough := len(culprits) >= 5
		mu.Unlock()
		if enough {
			return
		}
		costs := 0.0
		t.Run("", func(t *testing.T) { costs = waitingCosts(t, damages) })
		switch half := len(damages) / 2; {
		case costs < maxWaitingCosts:
		case half == 0:
			mu.Lock()
			culprits = append(culprits, fmt.Sprintf("with %#x at %d waiting takes %.0f %% of a processor", damages[0].value, damages[0].at, 100*costs))
			mu.Unlock()
		default:
			examine(damages[:half])
			examine(damages[half:])
		}
	}
	ds := damagesOf()
	var parts sync.WaitGroup
	const size = 60 // two handles each: on 32 bits with cgo 250 may wait in a process
	for at := 0; at < len(ds); at += size {
		parts.Go(func() { examine(ds[at:min(at+size, len(ds))]) })
	}
	parts.Wait()
	if len(culprits) > 0 {
		t.Error(strings.Join(culprits, "\n"))
	}
}

// Fuzzing writes over a word of a table in use.
func FuzzTableInUse(f *testing.F) {
	needsProcessorTime(f)
	RemoveAfterWorkers(f, semaphore.EngineRecoverable)
	f.Add(uint32(permits.SlotsAt+permits.SlotSize*3+16), uint64(12345), uint64(0))
	f.Fuzz(func(t *testing.T, at uint32, value, then uint64) {
		if costs := waitingCosts(t, []damage{{int64(at) % (permits.Size - 8), [2]uint64{value, then}}}); costs >= maxWaitingCosts {
			t.Errorf("waiting takes %.0f %% of a processor", 100*costs)
		}
	})
}
