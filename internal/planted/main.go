// Planted shows that the tests of the recoverable engine find the mistakes that
// they are there to find: it plants them, one at a time, in a build of the tests,
// and runs those that should fail. "go run ./internal/planted" in the root folder;
// it ends with status 1 if a mistake is not found.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/procsem/semaphore/internal/names"
)

// A defect is a mistake: texts in a file of the package, and what stands there
// instead. Some bring along a call of trace, where they would be interrupted: there the
// test lets another process come in.
type defect struct {
	name  string
	file  string
	test  string // which test should find it
	pkg   string // where that is
	edits []edit
}

type edit struct{ old, new string }

const (
	root = "."
	unit = "./internal/permits"

	hint    = "internal/permits/hint.go"
	limit   = "internal/permits/limit.go"
	owner   = "internal/permits/owner.go"
	reaping = "internal/permits/scan.go"
	waiters = "internal/permits/waiters.go"
	linux   = "sem_recover_linux.go"
	engine  = "sem_recover.go"
	core    = "semaphore.go"
)

var defects = []defect{
	// The two orders: who gives frees first and then reads the number of waiters,
	// who waits counts himself first and then looks.
	{"put reads the number of waiters before it frees", owner, "TestGiveAgainstWait", unit, []edit{{
		"	if word>>genShift != o.word>>genShift || !o.words[i].CompareAndSwap(word, 0) {\n		return false\n	}\n	o.Announce(i)\n",
		"	early := o.Waiters()\n	trace(Taking)\n	if word>>genShift != o.word>>genShift || !o.words[i].CompareAndSwap(word, 0) {\n		return false\n	}\n	if early > 0 {\n		o.Announce(i)\n	}\n",
	}}},
	{"Give reads the number of waiters before it frees", owner, "TestGiveAgainstWait", unit, []edit{
		{"		if o.words[i].CompareAndSwap(o.word, 0) {\n			o.home", "		early := o.Waiters()\n		trace(Taking)\n		if o.words[i].CompareAndSwap(o.word, 0) {\n			o.home"},
		{"			o.slow.Unlock()\n			o.Announce(i)\n", "			o.slow.Unlock()\n			if early > 0 {\n				o.Announce(i)\n			}\n"},
	}},
	{"GiveHome reads the number of waiters before it frees", owner, "TestGiveAgainstWait", unit, []edit{
		{"	if !o.words[home].CompareAndSwap(o.word, 0) {", "	early := uint32(o.waiters.Load())\n	trace(Taking)\n	if !o.words[home].CompareAndSwap(o.word, 0) {"},
		{"home < groupSize && uint32(o.waiters.Load()) == 0", "home < groupSize && early == 0"},
	}},
	{"a waiter counts itself after it has looked", linux, "TestGiveBeforeSleep", root, []edit{
		{"	r.own.Join()\n	var (", "	joined := false\n	var ("},
		{"		err := r.sleep(words", "		if !joined {\n			r.own.Join()\n			joined = true\n		}\n		err := r.sleep(words"},
		{"	if r.own.Leave() {\n", "	if !joined {\n		r.own.Join()\n	}\n	if r.own.Leave() {\n"},
	}},
	{"a waiter reads the event after it has looked", linux, "TestGiveBeforeSleep", root, []edit{
		{"		err := r.sleep(words", "		words[0].Value = atomic.LoadUint32(r.table.Event())\n		err := r.sleep(words"},
	}},
	{"a waiter reads the liveness words after it has looked", linux, "TestDeathBeforeSleep", root, []edit{
		{"		err := r.sleep(words", "		for i := range words {\n			words[i].Value = atomic.LoadUint32(words[i].Addr)\n		}\n		err := r.sleep(words"},
	}},
	{"give tells no waiter", waiters, "TestWaitersAreHealed", unit, []edit{
		{"		o.event.Add(1)\n", "		return\n"},
	}},
	{"give wakes, but does not change the event", waiters, "TestGiveBeforeSleep", root, []edit{
		{"		o.event.Add(1)\n", ""},
	}},
	{"give does not offer the word in the summary", owner, "TestTakeAndGive", unit, []edit{
		{"	o.offer(i)\n	o.Notify(1)\n", "	o.Notify(1)\n"},
	}},

	// What is read again after the compare-and-swap.
	{"the fast path does not look again whether the handle is closed", core, "TestTakeAgainstClose", root, []edit{
		{"	if s.closed() {\n		return s.undo()\n	}\n", ""},
	}},
	{"Wait does not look again whether the handle is closed", core, "TestTakeAgainstClose", root, []edit{
		{"	if s.closed() {\n		// Post would refuse", "	if false {\n		// Post would refuse"},
	}},
	{"Acquire does not look again whether the handle is closed", "permit.go", "TestTakeAgainstClose", root, []edit{
		{"	if s.closed() {\n		// Close may have missed", "	if false {\n		// Close may have missed"},
	}},
	{"the fast path does not look at the limit again", owner, "TestLoweringAtEachStep", unit, []edit{
		{"	if uint64(home) >= l&limitMask", "	trace(Taking)\n	if uint64(home) >= l&limitMask"},
		{"	return int(home), o.limit.Load() == l\n", "	return int(home), true\n"},
	}},
	{"take does not look at the limit again", limit, "TestTakeAgainstLowering", unit, []edit{
		{"		case i >= n:\n			return false\n", "		case i >= n:\n			return true\n"},
	}},
	{"takers do not count while the limit shrinks", limit, "TestTakersCountAfterwards", unit, []edit{
		{"held > n {\n			return false", "held > n {\n			return true"},
	}},
	{"takers find room while the limit shrinks, whoever holds", limit, "TestShrinking", unit, []edit{
		{"	if highest < limitOf(l) {", "	if highest < len(o.words) {"},
	}},

	{"a limit that is set again looks like the one before", limit, "TestLoweringTwice", unit, []edit{
		{"(limitMask|limitSet)+limitVersion)", "(limitMask|limitSet))"},
		{"		if o.limit.CompareAndSwap(l, l&^shrinking) {", "		trace(Taking)\n		if o.limit.CompareAndSwap(l, l&^shrinking) {"},
	}},

	// Who leaves, or gives back what others held, tells.
	{"who leaves does not pass on a wake-up", waiters, "TestLeavePassesOn", unit, []edit{
		{"woken || o.room() && o.mayTake()", "woken"},
	}},
	{"who was woken and took nothing tells nobody whom to watch", waiters, "TestLeavePassesOn", unit, []edit{
		{"woken || o.room() && o.mayTake()", "scan && woken || o.room() && o.mayTake()"},
	}},
	{"who was woken for nothing forgets it when it sleeps again", linux, "TestWokenForNothingAndCancelled", root, []edit{
		{"woken = woken || notified", "woken = notified"},
	}},
	{"who leaves does not pass on the news of a death", waiters, "TestLeavePassesOn", unit, []edit{
		{"scan = scan || atomic.LoadUint32(word.Addr) != word.Value", "_ = atomic.LoadUint32(word.Addr)"},
	}},
	{"recovery tells nobody", reaping, "TestRecoveryTells", unit, []edit{
		{"	o.Notify(f.Freed)\n", ""},
	}},
	{"who claims the slot of a dead one tells nobody", owner, "TestRecoveryTells", unit, []edit{
		{"	o.Notify(freed)\n	slot.clearing.Store(0)\n", "	slot.clearing.Store(0)\n"},
	}},
	{"who claims the slot of one who died giving tells nobody", owner, "TestClaimTellsForTheDead", unit, []edit{
		{"		freed = max(freed, 1)\n	}\n	o.Notify(freed)", "	}\n	o.Notify(freed)"},
	}},
	{"SetLimit wakes nobody", limit, "TestRecoveryTells", unit, []edit{
		{"	o.Notify(n - limitOf(old))\n", ""},
	}},
	{"Close tells nobody", owner, "TestRecoveryTells", unit, []edit{
		{"	o.Notify(n)\n	return n\n", "	return n\n"},
	}},
	{"healing ignores that the number has changed", waiters, "TestHealAgainstJoin", unit, []edit{
		{"		o.waiters.CompareAndSwap(w, (w>>32+1)<<32|uint64(n))\n", "		trace(Taking)\n		o.waiters.Store((w>>32+1)<<32 | uint64(n))\n"},
	}},
	{"a waiter counts itself before it says that it waits", waiters, "TestJoinAndLeaveAgainstHealing", unit, []edit{
		{"	o.slots[o.slot].waits.Store(o.gen)\n	o.waiters.Add(oneChange + oneWaiter)\n", "	o.waiters.Add(oneChange + oneWaiter)\n	trace(Taking)\n	o.slots[o.slot].waits.Store(o.gen)\n"},
	}},
	{"who leaves unsays that it waits before it uncounts itself", waiters, "TestJoinAndLeaveAgainstHealing", unit, []edit{
		{"	w := o.waiters.Add(oneChange - oneWaiter)\n	o.slots[o.slot].waits.Store(0)\n", "	o.slots[o.slot].waits.Store(0)\n	trace(Taking)\n	w := o.waiters.Add(oneChange - oneWaiter)\n"},
	}},
	{"the number of waiters does not heal", waiters, "TestWaitersAreHealed", unit, []edit{
		{"	if n < waitersOf(w) {", "	if n > waitersOf(w) {"},
	}},

	// Who is dead.
	{"the dead are not buried", reaping, "TestRecovery", unit, []edit{
		{"	freed := o.reapOwner(s, gen)\n", "	freed := 0\n"},
	}},
	{"who looks dead by the news is buried, whatever the lock says", reaping, "TestNewsBeforeTheLock", unit, []edit{
		{"	if alive {\n		if live&futex.OwnerDied", "	if alive && live&futex.OwnerDied == 0 {\n		if live&futex.OwnerDied"},
	}},
	{"the dead one's slot is buried, whosever it is by now", reaping, "TestLateCleaner", unit, []edit{
		{"return w>>genShift == owner })", "return slotOf(w) == slotOf(owner<<genShift) })"},
	}},
	{"a word of an older generation passes for its slot's owner's", reaping, "TestLateCleaner", unit, []edit{
		{" || o.slots[s].gen.Load() != genOf(w)", ""},
	}},
	{"who claims a slot takes over its generation", owner, "TestLateCleaner", unit, []edit{
		{"slot.gen.Load()&genMask + 1\n", "max(1, slot.gen.Load()&genMask)\n"},
	}},
	{"waiters do not watch those who wait", reaping, "TestWatch", unit, []edit{
		{"			ahead.add(s, slot.ticket.Load())\n", ""},
	}},
	{"waiters do not sleep on the word of places", linux, "TestTicketTakenBeforeSleep", root, []edit{
		{", futex.Word{Addr: r.table.Tickets(), Value: tickets})", ")\n		_ = tickets"},
	}},
	{"the kernel is not asked to tell of our death", linux, "TestWaitReturnsPermitOfDeadHolder", root, []edit{
		{"	r.robustEntry.Add(word, (*uintptr)(unsafe.Add(unsafe.Pointer(word), -futex.Distance)))\n", "	_ = word\n"},
	}},
	{"the kernel is not asked to wake whom it tells", "internal/futex/robust_linux.go", "TestWaitReturnsPermitOfDeadHolder", root, []edit{
		{"	word.Store(robust.thread | Waiters)\n", "	word.Store(robust.thread)\n"},
	}},

	// The summary.
	{"who clears a bit of the summary does not write down that he does", hint, "TestClearerIsKilled", unit, []edit{
		{"	own.Store(uint32(g) + 1)\n", ""},
		{"	o.summary[g/64].And(^uint64(1 << (g % 64)))\n", "	o.summary[g/64].And(^uint64(1 << (g % 64)))\n	trace(Taking)\n"},
	}},
	{"takers do not look where somebody clears a bit", hint, "TestClearerDies", unit, []edit{
		{"g := int(o.slots[s].clearing.Load()) - 1; g > 0 && g <= last", "g := int(o.slots[s].clearing.Load()) - 1; g > last"},
	}},

	// Close, hand-overs, the claim.
	{"Close does not sweep", owner, "TestCloseGivesBack", root, []edit{
		{"	n = o.sweep(func(w uint64) bool { return w>>genShift == o.word>>genShift })\n", ""},
	}},
	{"a permit is handed over while the limit shrinks", core, "TestLoweredLimitAgainstHandOver", root, []edit{
		{"(s.owns == nil || !s.owns.Owner().Shrinking())", "true"},
	}},
	{"a permit above the limit is handed over", owner, "TestHandOverAgainstLowering", unit, []edit{
		{"toPermit && i >= limitOf(o.limit.Load())", "toPermit && i > len(o.words)"},
	}},
	{"Open does not take the claim's lock", engine, "TestClaimIsExclusive", root, []edit{
		{"	if unlock, err = r.lockClaim(); err != nil {\n		return nil, err\n	}\n	if gone", "	if gone"},
	}},
	{"SetLimit does not take the claim's lock", engine, "TestClaimIsExclusive", root, []edit{
		{"	unlock, err := r.lockClaim()\n	if err != nil {\n		return err\n	}\n	defer unlock()\n	defer r.nudge()\n", "	defer r.nudge()\n"},
	}},
	{"another limit is adopted while others live", engine, "TestLimitOfAnExistingOne", root, []edit{
		{"		if lives {\n			return because", "		if lives && n < 0 {\n			return because"},
	}},
	{"who lives on as another program does not count as living", owner, "TestExecKeepsTheLimit", root, []edit{
		{"s != o.slot && slot.state.Load() == slotUsed &&", "s != o.slot && slot.live.Load()&futex.OwnerDied == 0 && slot.state.Load() == slotUsed &&"},
	}},
	{"SetLimit's limit does not stay", engine, "TestLimitOfAnExistingOne", root, []edit{
		{"r.opts.valueSet && !set && n", "r.opts.valueSet && (set || n > 0) && n"},
	}},

	// And the storms, of themselves.
	{"the fast path forgets that the handle may be closed", core, "TestStorm", root, []edit{
		{"	if s.closed() {\n		return s.undo()\n	}\n", ""},
	}},
	{"whoever is told dead is buried at once", reaping, "TestStorm", root, []edit{
		{"	if alive {\n		if live&futex.OwnerDied", "	if alive && live&futex.OwnerDied == 0 {\n		if live&futex.OwnerDied"},
	}},
	{"nobody is ever told", waiters, "TestStormWithoutKills", root, []edit{
		{"		o.event.Add(1)\n", "		return\n"},
	}},
}

func main() {
	only := flag.String("run", "", "plant only the defects whose name matches this expression")
	kills := flag.Int("kills", 800, "how many kills the storms have to find each")
	flag.Parse()
	dir, err := os.MkdirTemp("", "semaphore-planted-")
	must(err)
	defer os.RemoveAll(dir)
	if !sound(dir, *kills) {
		os.Exit(1)
	}
	code := 0
	for i, d := range defects {
		if !regexp.MustCompile(*only).MatchString(d.name) {
			continue
		}
		start := time.Now()
		how, found := d.find(filepath.Join(dir, fmt.Sprint(i)), *kills)
		verdict := "found"
		if !found {
			verdict, code = "NOT FOUND", 1
		}
		fmt.Printf("%-9s %5.1f s | %s | %s | %s\n", verdict, time.Since(start).Seconds(), d.name, d.test, how)
	}
	if code != 0 {
		os.RemoveAll(dir)
		os.Exit(code)
	}
}

// sound runs the tests on what is: where they fail of themselves they show nothing.
func sound(dir string, kills int) bool {
	tests := make(map[string]map[string]bool)
	for _, d := range defects {
		if strings.Contains(d.test, "Storm") {
			continue // long, and run as tests
		}
		if tests[d.pkg] == nil {
			tests[d.pkg] = make(map[string]bool)
		}
		tests[d.pkg][d.test] = true
	}
	for pkg, names := range tests {
		binary := filepath.Join(dir, "sound")
		build := exec.Command("go", "test", "-c", "-o", binary, pkg)
		out, err := build.CombinedOutput()
		if err == nil {
			// With the patience that tests have: nothing is to hang.
			out, err = check(binary, pkg, strings.Join(slices.Sorted(maps.Keys(names)), "|"), kills, "20s", "60s")
		}
		if err != nil {
			fmt.Printf("%s, with nothing planted: %v\n%s", pkg, err, out)
			return false
		}
	}
	return true
}

// check runs tests.
func check(binary, pkg, tests string, kills int, hang, patience string) (out []byte, err error) {
	run := exec.Command(binary, "-test.run", "^("+tests+")$", "-test.timeout", "2m", "-test.failfast")
	run.Dir = pkg
	// What tests leave behind that fail goes with a directory of their own.
	store, err := os.MkdirTemp(shm(), "planted-")
	must(err)
	defer os.RemoveAll(store)
	must(os.Chmod(store, 0o777|os.ModeSticky))
	run.Env = append(os.Environ(), names.DirVariable+"="+store)
	if pkg == root {
		run.Args = append(run.Args, "-hang", hang, "-storm.kills", fmt.Sprint(kills), "-storm.patience", patience)
	}
	return run.CombinedOutput()
}

// shm is where semaphores are by default, if there is such a place.
func shm() string {
	if _, err := os.Stat(names.GlibcDir); err != nil {
		return ""
	}
	return names.GlibcDir
}

// find builds the tests with the defect, and runs the one that should fail.
func (d defect) find(dir string, kills int) (how string, found bool) {
	must(os.Mkdir(dir, 0o700))
	source, err := os.ReadFile(d.file)
	must(err)
	mutated := string(source)
	for _, e := range d.edits {
		if strings.Count(mutated, e.old) != 1 {
			return fmt.Sprintf("%q is not once in %s", e.old, d.file), false
		}
		mutated = strings.Replace(mutated, e.old, e.new, 1)
	}
	mutant := filepath.Join(dir, "mutant.go")
	must(os.WriteFile(mutant, []byte(mutated), 0o600))
	path, err := filepath.Abs(d.file)
	must(err)
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutant}})
	must(err)
	overlayFile := filepath.Join(dir, "overlay.json")
	must(os.WriteFile(overlayFile, overlay, 0o600))
	binary := filepath.Join(dir, "test")
	build := exec.Command("go", "test", "-overlay", overlayFile, "-c", "-o", binary, d.pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Sprintf("%v: %s", err, out), false
	}
	// A signal or a busy machine may spoil the interleaving that a test has made.
	var out []byte
	err = nil
	for try := 0; try < 3 && err == nil; try++ {
		out, err = check(binary, d.pkg, d.test, kills, "2s", "3s")
	}
	os.Remove(binary)
	if err == nil {
		return "all tests passed", false
	}
	for line := range strings.Lines(string(out)) {
		if _, what, ok := strings.Cut(line, "_test.go:"); ok {
			_, what, _ = strings.Cut(what, ": ")
			return strings.TrimSpace(what), true
		}
	}
	return fmt.Sprintf("%v: %s", err, out), false
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "planted:", err)
		os.Exit(2)
	}
}
