//go:build (unix && !aix && !filelock_fcntl) || windows

// The storm: many processes take, wait, cancel, give, open, close and resize, while
// a killer kills and restarts them at random.

package storm_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

var (
	stormKills    = flag.Int("storm.kills", stormKillsHere, "how many processes the storm kills")
	stormPatience = flag.Duration("storm.patience", 3*Hang, "how long workers may take, at the end, to get permits")
)

func kills() int { return Times(*stormKills) }

const (
	stormLimit  = 3 // the first limit, and the highest if workers resize
	stormRounds = 40
	stormHands  = 4 // goroutines of a worker that may be inside at the same time
)

// A headcount counts the goroutines that are inside, in all processes. A goroutine that is
// inside has a byte of a file locked: it takes the lock after the permit, and drops it
// before it gives the permit back; when its process dies, the kernel drops the lock not
// later than anything that could let another process in (see witnesses). Goroutines enter
// and leave under the lock of a gate, so that the count is of one moment.
//
// One that has a Permit also has the byte of the permit's number locked, for as long. It
// never waits for that: whoever had the number before has left, or is so dead that
// its locks are dropped. So if the byte is locked, a living holder has the same number.
//
// One that has several permits is inside as often as it has permits: a byte of a hand for each.
//
// The file's content is the limit, and how many may be inside. Lowering the limit takes
// no permit from its holder, so if more permits than the limit are held at that moment,
// as many may be inside, less one for each goroutine that has left since.
type headcount struct {
	f *os.File
	witnesses
	mu sync.Mutex
}

type bound struct{ Limit, Inside int64 }

func (h *headcount) read() (b bound) {
	if err := binary.Read(io.NewSectionReader(h.f, 0, 16), binary.LittleEndian, &b); err != nil {
		panic(err)
	}
	return b
}

func (h *headcount) write(b bound) {
	var w bytes.Buffer
	binary.Write(&w, binary.LittleEndian, b)
	if _, err := h.f.WriteAt(w.Bytes(), 0); err != nil {
		panic(err)
	}
}

// setLimit resizes s. A worker that is killed in it leaves a bound that is too high.
func (h *headcount) setLimit(s *semaphore.Semaphore, n int) error {
	defer h.gate()()
	before := h.read()
	h.write(bound{max(int64(n), before.Limit), max(int64(n), before.Inside)})
	if err := s.SetLimit(n); err != nil {
		return err
	}
	held := 0
	for _, holder := range Table(s).Holders() {
		held += holder.Permits
	}
	h.write(bound{int64(n), int64(max(n, held))})
	return nil
}

const gateByte = 1 << 20

func openHeadcount(path, name string, worker int) *headcount {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	return &headcount{f: f, witnesses: newWitnesses(f, name, worker)}
}

func (h *headcount) gate() (open func()) {
	h.mu.Lock()
	h.lockGate()
	return func() {
		h.unlockGate()
		h.mu.Unlock()
	}
}

// enter lets a goroutine in that has permits with these numbers, or one whose number it does
// not know. It reports a number that another holder has, or more permits inside than may be, and else how many are.
func (h *headcount) enter(s *semaphore.Semaphore, hand int, numbers []int) (inside int, err error) {
	defer h.gate()()
	for i := range max(1, len(numbers)) {
		h.testify(s, hand+i)
	}
	for _, number := range numbers {
		if number < 0 || number >= stormLimit {
			return 0, fmt.Errorf("a permit has the number %d, of at most %d", number, stormLimit)
		}
		if !h.claim(s, number) {
			return 0, fmt.Errorf("two holders have the number %d", number)
		}
	}
	inside = h.count()
	if allowed := int(h.read().Inside); inside > allowed {
		return 0, fmt.Errorf("%d inside, allowed are %d", inside, allowed)
	}
	return inside, nil
}

func (h *headcount) leave(s *semaphore.Semaphore, hand int, numbers []int) {
	defer h.gate()()
	n := max(1, len(numbers))
	for i := range n {
		h.retract(s, hand+i)
	}
	for _, number := range numbers {
		h.disclaim(s, number)
	}
	if b := h.read(); b.Inside > b.Limit {
		h.write(bound{b.Limit, max(b.Limit, b.Inside-int64(n))})
	}
}

// A stormWorker is a process of the storm.
type stormWorker struct {
	name    string
	count   *headcount
	calm    bool // no worker is killed
	resize  bool
	weights bool // workers take several permits, too
	s       *semaphore.Semaphore
	args    []string
}

func TestMain(m *testing.M) {
	os.Exit(Main(m, Helpers{"storm": stormMain, "burst": burstMain, "order": orderMain}))
}

// stormMain is a worker. Its arguments are the semaphore's name, the file of the
// headcount, the worker's number, and what happens.
func stormMain(args []string) int {
	w := &stormWorker{name: args[0], calm: strings.Contains(args[3], "calm"), resize: strings.Contains(args[3], "resize"), weights: strings.Contains(args[3], "weights"), args: args}
	var number int
	fmt.Sscan(args[2], &number)
	w.count = openHeadcount(args[1], w.name, number)
	// A kill at a random moment does not hit steps that take less than a microsecond:
	// make some of them last.
	testhook.Trace = func(step uint32) {
		s := permits.Step(step)
		odds, longest := 4, 2*time.Millisecond
		switch s {
		case permits.Idle, permits.Waiting:
			return
		case permits.Taking: // often
			odds = 20
		case permits.Reaping: // rare
			odds, longest = 2, stormRareStep
		case permits.Shrinking: // one of twenty things that a worker does
			odds, longest = 1, max(stormRareStep, 20*time.Millisecond)
		}
		if rand.IntN(odds) == 0 {
			time.Sleep(time.Duration(rand.Int64N(int64(longest))))
		}
	}
	var finish atomic.Bool
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		finish.Store(true)
	}()
	w.open()
	for round := 0; !finish.Load() && (!w.calm || round < stormRounds); round++ {
		w.act()
	}
	// The workers that are left all get permits, again and again, without a time limit.
	w.reopen()
	for range 3 {
		w.check(w.s.Wait())
		w.inside(0)
		w.check(w.s.Post())
	}
	if w.weights {
		p, err := w.s.AcquireN(context.Background(), semaphore.All)
		w.check(err)
		w.insideSeveral(semaphore.All, p)
	}
	fmt.Println("finished,", int(testhook.Rescued.Load()), "rescued")
	for !finish.Load() {
		time.Sleep(time.Millisecond)
	}
	w.check(w.s.Close())
	return 0
}

func (w *stormWorker) check(err error) {
	if err != nil {
		w.complain("%v", err)
	}
}

func (w *stormWorker) complain(format string, args ...any) {
	fmt.Printf("violation: "+format+"\n", args...)
	os.Exit(9)
}

func (w *stormWorker) opened() *semaphore.Semaphore {
	opts := []semaphore.Option{semaphore.WithRecovery(true), semaphore.WithCreate(false)}
	if rand.IntN(2) == 0 { // a logger prevents the fast path
		opts = append(opts, semaphore.WithLogger(slog.New(slog.DiscardHandler)))
	}
	s, err := semaphore.Open(w.name, opts...)
	w.check(err)
	return s
}

func (w *stormWorker) open() { w.s = w.opened() }

func (w *stormWorker) reopen() {
	w.check(w.s.Close())
	w.open()
}

// inside is the critical section, with a permit that Wait has taken or with numbered ones.
func (w *stormWorker) inside(hand int, numbers ...int) {
	_, err := w.count.enter(w.s, hand, numbers)
	w.check(err)
	w.linger(hand, numbers)
}

// linger stays inside for a while, and leaves.
func (w *stormWorker) linger(hand int, numbers []int) {
	if rand.IntN(3) == 0 {
		time.Sleep(time.Duration(rand.Int64N(int64(500 * time.Microsecond))))
	}
	if !w.calm {
		w.perhapsDie(hand, numbers)
	}
	w.count.leave(w.s, hand, numbers)
}

// insideWith is the critical section with a Permit.
func (w *stormWorker) insideWith(hand int, p *semaphore.Permit) {
	numbers := p.Slots()
	if len(numbers) == 0 {
		w.complain("a Permit without a number")
	}
	w.inside(hand, numbers...)
	w.check(p.Release())
}

// several takes several permits. One that is to get two of a limit that others may leave at one
// does not wait for long.
func (w *stormWorker) several() {
	n := []int{2, stormLimit, semaphore.All}[rand.IntN(3)]
	ctx, cancel := short()
	defer cancel()
	if rand.IntN(3) == 0 && (n == semaphore.All || !w.resize) {
		ctx = context.Background()
	}
	p, err := w.s.AcquireN(ctx, n)
	if rand.IntN(5) == 0 && err != nil {
		p, err = w.s.TryAcquireN(n)
	}
	switch {
	case err == nil:
		w.insideSeveral(n, p)
	case w.resize && errors.Is(err, semaphore.ErrInvalidValue):
	case !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, semaphore.ErrWouldBlock):
		w.check(err)
	}
}

// insideSeveral is the critical section with n permits, or with all: then nobody else is inside, unless
// the limit was raised since. It is called while no other goroutine of the process is inside.
func (w *stormWorker) insideSeveral(n int, p *semaphore.Permit) {
	numbers := p.Slots()
	if len(numbers) != n && n != semaphore.All {
		w.complain("a Permit of %d has the numbers %v", n, numbers)
	}
	inside, err := w.count.enter(w.s, 0, numbers)
	w.check(err)
	if n == semaphore.All && !w.resize && (inside != stormLimit || len(numbers) != stormLimit) {
		w.complain("one that has all has %v of %d, and %d are inside", numbers, stormLimit, inside)
	}
	w.linger(0, numbers)
	w.check(p.Release())
}

// perhapsDie sometimes ends the process, in another way than by a kill.
func (w *stormWorker) perhapsDie(hand int, numbers []int) {
	switch rand.IntN(400) {
	case 0:
		os.Exit(3)
	case 1:
		fmt.Println("panic")
		os.Stderr.Close() // the panic is intended: do not print it
		panic("storm")
	case 2:
		w.perhapsExec(hand, numbers)
	}
}

func short() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Duration(rand.Int64N(int64(3*time.Millisecond))))
}

func (w *stormWorker) act() {
	cancelled := func(err error) bool {
		if err == nil {
			return false
		}
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, semaphore.ErrWouldBlock) {
			w.check(err)
		}
		return true
	}
	switch n := rand.IntN(100); {
	case w.weights && rand.IntN(3) == 0:
		w.several()
	case n < 25:
		ctx, cancel := short()
		defer cancel()
		if !cancelled(w.s.WaitContext(ctx)) {
			w.inside(0)
			w.check(w.s.Post())
		}
	case n < 45:
		ctx, cancel := short()
		defer cancel()
		if p, err := w.s.Acquire(ctx); !cancelled(err) {
			w.insideWith(0, p)
		}
	case n < 60:
		w.check(w.s.Wait())
		w.inside(0)
		w.check(w.s.Post())
	case n < 62:
		if !cancelled(w.s.TryWait()) {
			w.inside(0)
			w.check(w.s.Post())
		}
	case n < 65:
		if p, err := w.s.TryAcquire(); !cancelled(err) {
			w.insideWith(0, p)
		}
	case n < 75:
		w.closeUnderFire()
	case n < 85:
		w.reopen()
	case n < 90:
		if w.resize {
			w.check(w.count.setLimit(w.s, 1+rand.IntN(stormLimit)))
		}
	default:
		var all sync.WaitGroup
		for hand := range stormHands {
			all.Go(func() {
				ctx, cancel := short()
				defer cancel()
				// Permits are passed on between the two, and within each.
				if hand%2 == 0 {
					if !cancelled(w.s.WaitContext(ctx)) {
						w.inside(hand)
						w.check(w.s.Post())
					}
				} else if p, err := w.s.Acquire(ctx); !cancelled(err) {
					w.insideWith(hand, p)
				}
			})
		}
		all.Wait()
	}
}

// closeUnderFire closes a handle that goroutines are taking and giving on.
func (w *stormWorker) closeUnderFire() {
	s := w.opened()
	var all sync.WaitGroup
	for hand := range stormHands {
		all.Go(func() {
			for {
				take := s.Wait
				if hand%2 == 0 {
					take = s.TryWait
				}
				err := take()
				if errors.Is(err, semaphore.ErrClosed) {
					return
				}
				if errors.Is(err, semaphore.ErrWouldBlock) {
					continue
				}
				w.check(err)
				// Close may have given the permit back meanwhile, so we cannot
				// go inside with it; Post must succeed or say that.
				if err := s.Post(); !errors.Is(err, semaphore.ErrClosed) {
					w.check(err)
				}
			}
		})
	}
	time.Sleep(time.Duration(rand.Int64N(int64(time.Millisecond))))
	w.check(s.Close())
	if err := s.TryWait(); !errors.Is(err, semaphore.ErrClosed) {
		w.complain("TryWait after Close: %v", err)
	}
	all.Wait()
}

// A victim is a worker as the test that kills it sees it.
type victim struct {
	number int
	cmd    *exec.Cmd
	in     io.WriteCloser
	said   chan string
}

type storm struct {
	t       *testing.T
	s       *semaphore.Semaphore
	path    string
	what    string
	workers []*victim
	killed  map[string]int
	stopped int
}

func (st *storm) start(number int) *victim {
	cmd := Helper(st.t, "storm", st.s.Name(), st.path, fmt.Sprint(number), st.what)
	if !strings.Contains(st.what, "calm") {
		cmd.Env = append(cmd.Env, NetVariable+"=on")
	}
	return startVictim(st.t, number, cmd)
}

// startVictim starts a worker.
func startVictim(t *testing.T, number int, cmd *exec.Cmd) *victim {
	cmd.Env = append(cmd.Env, "GOTRACEBACK=none")
	in, err := cmd.StdinPipe()
	Must(t, err)
	out, err := cmd.StdoutPipe()
	Must(t, err)
	Must(t, cmd.Start())
	v := &victim{number: number, cmd: cmd, in: in, said: make(chan string, 16)}
	go func() {
		defer close(v.said)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			v.said <- lines.Text()
		}
	}()
	return v
}

// doing returns what a stopped worker was doing, according to the table.
func (st *storm) doing(pid int) []string {
	did := make(map[string]bool)
	for _, h := range Table(st.s).Holders() {
		if h.PID != pid {
			continue
		}
		if h.Permits > 0 {
			did["holding"] = true
		}
		if h.Waits {
			did["queued"] = true
		}
		if h.Doing > permits.Waiting || h.Doing == permits.Claiming {
			did[h.Doing.String()] = true
		}
	}
	return slices.Collect(maps.Keys(did))
}

// rare reports whether a worker is at a step at which few workers were killed so far.
func (st *storm) rare(pid int) bool {
	return slices.ContainsFunc(st.doing(pid), func(did string) bool { return st.killed[did] < 5 })
}

// atOneOf returns a worker, but for one, that is at one of these steps, as soon as there is one, or nil.
func (st *storm) atOneOf(steps []string, butFor *victim) *victim {
	for start := time.Now(); time.Since(start) < 2*stormRareStep; time.Sleep(50 * time.Microsecond) {
		for _, v := range st.workers {
			if v != butFor && slices.ContainsFunc(st.doing(v.cmd.Process.Pid), func(did string) bool { return slices.Contains(steps, did) }) {
				return v
			}
		}
	}
	return nil
}

// strike stops a worker, notes what it was doing, and kills it, or lets it go on. One that is dead has
// to be replaced.
func (st *storm) strike(v *victim, kill bool) (dead bool) {
	pid := v.cmd.Process.Pid
	code, ended := st.stop(v)
	switch {
	case ended:
		switch code {
		case 3:
			st.killed["os.Exit"]++
		case 2: // see hear
		default:
			st.t.Errorf("a worker ended: status %d", code)
		}
	case kill || st.rare(pid):
		for _, did := range st.doing(pid) {
			st.killed[did]++
		}
		st.killed["killed"]++
		// Its end can take a while; the worker that replaces it need not wait.
		st.kill(v)
	default:
		st.stopped++
		time.Sleep(time.Duration(rand.Int64N(int64(2 * time.Millisecond)))) // it stands still
		st.goOn(v)
		return false
	}
	return true
}

func (st *storm) replace(v *victim) {
	v.in.Close()
	st.hear(v)
	st.workers[v.number] = st.start(v.number)
}

// hear reads the lines that a worker has printed so far.
func (st *storm) hear(v *victim) (finished bool) {
	for {
		select {
		case line, open := <-v.said:
			if !open {
				return finished
			}
			switch {
			case line == "exec" || line == "panic":
				st.killed[line]++
			case strings.HasPrefix(line, "violation"):
				st.t.Error(line)
			case strings.HasPrefix(line, "finished"):
				finished = true
			}
		default:
			return finished
		}
	}
}

// finish waits until all workers that are left have got their permits, and ends them.
func (st *storm) finish() {
	patience := *stormPatience
	if strings.Contains(st.what, "calm") {
		patience *= 3 // they have all their rounds before them
	} else {
		for _, v := range st.workers {
			fmt.Fprintln(v.in)
		}
	}
	deadline := time.Now().Add(patience)
	for _, v := range st.workers {
		for finished := false; !finished && !st.t.Failed(); {
			select {
			case line, open := <-v.said:
				if !open {
					// That a worker ended itself at the last moment is no failure.
					finished = true
				}
				if strings.HasPrefix(line, "violation") {
					st.t.Error(line)
				}
				if strings.HasPrefix(line, "finished") {
					finished = true
				}
			case <-time.After(time.Until(deadline)):
				st.t.Errorf("worker %d sleeps on: %d of %d permits are free, %d waiters are counted",
					v.number, value(st.t, st.s), limit(st.t, st.s), Table(st.s).Waiters())
				return
			}
		}
	}
}

func value(t *testing.T, s *semaphore.Semaphore) int {
	n, err := s.Value()
	Must(t, err)
	return n
}

func limit(t *testing.T, s *semaphore.Semaphore) int {
	n, err := s.Limit()
	Must(t, err)
	return n
}

// runStorm kills that many workers, and then shows that no permit was lost or
// issued twice.
func runStorm(t *testing.T, what string, kills int) *storm {
	s := Open(t, UniqueName(t), semaphore.EngineRecoverable, semaphore.WithValue(stormLimit))
	st := &storm{t: t, s: s, path: filepath.Join(TempDir(t), "headcount"), what: what, killed: make(map[string]int)}
	t.Cleanup(func() {
		for _, v := range st.workers {
			v.in.Close()
			v.cmd.Process.Kill()
			v.cmd.Wait()
		}
	})
	limits := openHeadcount(st.path, s.Name(), stormWorkers)
	limits.write(bound{stormLimit, stormLimit})
	limits.close()
	for i := range stormWorkers {
		st.workers = append(st.workers, st.start(i))
	}
	var deadline time.Time // for what the kills have missed
	for n := 0; (n < kills || len(st.missing()) > 0 && time.Now().Before(deadline)) && !t.Failed(); {
		if n < kills {
			deadline = time.Now().Add(3 * *stormPatience)
		}
		v := st.workers[rand.IntN(len(st.workers))]
		if st.strike(v, rand.IntN(3) == 0) {
			n++
			// Random kills may have missed a short step: then look for a worker that is at it, just after a kill,
			// as that is when workers reap.
			if n >= kills {
				if at := st.atOneOf(st.missing(), v); at != nil && st.strike(at, true) {
					st.replace(at)
				}
			}
			st.replace(v)
		}
		for _, v := range st.workers {
			st.hear(v)
		}
	}
	st.finish()
	if t.Failed() {
		return st
	}
	for _, v := range st.workers {
		if strings.Contains(what, "calm") {
			fmt.Fprintln(v.in)
		}
		v.cmd.Wait()
	}
	// The limit is exact.
	n := limit(t, s)
	Becomes(t, s, n)
	for range n {
		Must(t, s.TryWait())
	}
	WantErr(t, "TryWait beyond the limit", s.TryWait(), semaphore.ErrWouldBlock)
	for range n {
		Must(t, s.Post())
	}
	if w := Table(s).Waiters(); w != 0 {
		t.Errorf("%d waiters are still counted after a give", w)
	}
	return st
}

// missing lists the ways to die, and the steps to die at, that the storm has not hit
// yet.
func (st *storm) missing() (steps []string) {
	if strings.Contains(st.what, "calm") {
		return nil
	}
	if strings.Contains(st.what, "weights") {
		for _, step := range []string{"killed", "holding", "gathering"} {
			if st.killed[step] == 0 {
				steps = append(steps, step)
			}
		}
		return steps // the others are those of the other storms
	}
	for _, step := range append([]string{"killed", "os.Exit", "panic", "holding", "queued", "waking", "claiming a slot", "shrinking", "reaping"}, stormEnds...) {
		if step == "shrinking" && (!strings.Contains(st.what, "resize") || strings.Contains(st.what, "portable")) {
			continue // it is the same with the locks and sleeps of other systems
		}
		if (step == "queued" || step == "waking") && RecoverPolls() {
			continue // a waiter that polls is not in the table's queue
		}
		if st.killed[step] == 0 {
			steps = append(steps, step)
		}
	}
	return steps
}

func testStorm(t *testing.T, what string, kills int) {
	st := runStorm(t, what, kills)
	t.Logf("killed: %v; stopped for a while: %d", st.killed, st.stopped)
	if steps := st.missing(); len(steps) > 0 && !t.Failed() {
		t.Errorf("no worker was killed at: %v", steps)
	}
}

func TestStorm(t *testing.T) {
	needSpeed(t)
	testStorm(t, "kills", kills()/2)
}

func TestStormResizing(t *testing.T) {
	needSpeed(t)
	testStorm(t, "kills and resize", kills()/2)
}

// needSpeed skips a test on an emulator, where it takes minutes until a worker has been
// killed at each of the steps.
func needSpeed(t *testing.T) {
	t.Helper()
	if Emulated() {
		t.Skip("on an emulator: too slow for a storm with kills (TestStormWithoutKills runs)")
	}
}

// With several permits at once: no part of a gatherer is lost, one that has all is alone, and nobody
// waits for ever.
func TestStormOfWeights(t *testing.T) {
	needSpeed(t)
	testStorm(t, "kills weights", kills()/10)
}

func TestStormOfWeightsResizing(t *testing.T) {
	needSpeed(t)
	testStorm(t, "kills and resize weights", kills()/10)
}

func TestStormOfWeightsWithoutKills(t *testing.T) { testStorm(t, "calm weights", 0) }

// Without kills no waiter needs the safety net.
func TestStormWithoutKills(t *testing.T) { testStorm(t, "calm resize", 0) }

// The same with the locks and sleeps of other systems, or without reports of exits.
func TestStormPortable(t *testing.T) {
	needSpeed(t)
	defer Vary()()
	testStorm(t, "kills and resize portable", kills()/4)
}

func TestStormOfWeightsPortable(t *testing.T) {
	needSpeed(t)
	defer Vary()()
	testStorm(t, "kills weights", kills()/10)
}
