// Command mutants runs mutation tests of the recoverable engine and of procsem: for each mutant, which
// is the module with one mistake in it, it builds the tests and runs the test that must
// fail. Run it with "go run ./test/mutants" in the root directory. It exits with
// status 1 if a test does not find its mutant.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
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

// A mutant is one file with some texts replaced. Some replacements add a call of trace
// where an interruption matters: there the test lets another process go on.
type mutant struct {
	name  string // what the mutant does
	file  string
	test  string // the test that must find it
	pkg   string // the test's package
	edits []edit
}

type edit struct{ old, new string }

const (
	root  = "."
	unit  = "./internal/permits"
	whole = "./internal/recoverable"
	storm = "./test/storm"
	cmd   = "./internal/command"
	below = "./internal/engine"
	etcd  = "./etcd" // a module of its own, whose tests need a server

	hint    = "internal/permits/hint.go"
	limit   = "internal/permits/limit.go"
	owner   = "internal/permits/owner.go"
	reaping = "internal/permits/scan.go"
	waiters = "internal/permits/waiters.go"
	line    = "internal/permits/line.go"
	several = "internal/permits/gather.go"
	serve   = "internal/recoverable/wait.go"
	sleep   = "internal/recoverable/wait_linux.go"
	engine  = "internal/recoverable/recoverable.go"
	older   = "internal/recoverable/older.go"
	since   = "internal/permits/since.go"
	handed  = "internal/recoverable/handed.go"
	dying   = "internal/recoverable/dying.go"
	every   = "internal/permits/every.go"
	lookout = "internal/permits/lookout.go"
	unused  = "internal/recoverable/unused.go"
	words   = "internal/glibc/words.go"
	mapped  = "internal/engine/memory.go"
	grants  = "etcd/handle.go"
	leases  = "etcd/lease.go"
	core    = "semaphore.go"
	queue   = "wait.go"
)

var mutants = []mutant{
	// The two orders: a giver frees the word first, and then reads the number of
	// waiters; a waiter counts itself first, and then looks.
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
	{"a waiter does not count itself", waiters, "TestGiveBeforeSleep", whole, []edit{
		{"	o.waiters.Add(oneChange + oneWaiter)\n", ""},
	}},
	{"a waiter sleeps though it is called", sleep, "TestGiveBeforeSleep", whole, []edit{
		{"	switch err := s.h.stop.WaitAny(", "	s.words[0].Value = *s.words[0].Addr\n	switch err := s.h.stop.WaitAny("},
	}},
	{"a waiter reads the liveness words after it has looked", sleep, "TestDeathBeforeSleep", whole, []edit{
		{"	switch err := s.h.stop.WaitAny(", "	for i, w := range s.words[:s.n] {\n		s.words[i].Value = *w.Addr\n	}\n	switch err := s.h.stop.WaitAny("},
	}},
	{"Notify does nothing", waiters, "TestWaitersAreHealed", unit, []edit{
		{"	for n > 0 {\n		w :=", "	for n > MaxPermits {\n		w :="},
	}},
	{"a giver wakes a waiter, but does not call it", line, "TestGiveBeforeSleep", whole, []edit{
		{"CompareAndSwap(next.entry, next.entry|calledBit)", "CompareAndSwap(next.entry, next.entry)"},
	}},
	{"a giver calls a waiter, but does not wake it", line, "TestLine", unit, []edit{
		{"			return next.slot, host.Wake(next.slot, t.entryWord(next.slot))\n", "			return next.slot, true\n"},
	}},
	{"a giver calls the waiter that came last", line, "TestLine", unit, []edit{
		{"if next.isAfter(e) &&", "if (next.slot < 0 || e > next.entry) &&"},
	}},
	{"a waiter takes a permit though it is not its turn", line, "TestLine", unit, []edit{
		{"	if !turn {\n", "	if !turn && o.slot > MaxSlots {\n"},
	}},
	{"a waiter that is called takes a permit though it is not its turn", line, "TestCalledBehindOthers", unit, []edit{
		{"	if o.stands(ticket) {\n		o.unused = true\n	}\n	turn, first := o.isTurn(ticket)\n	if !turn {", "	called := o.stands(ticket)\n	if called {\n		o.unused = true\n	}\n	turn, first := o.isTurn(ticket)\n	if !called && !turn {"},
	}},
	{"a waiter takes no permit while others are before it, however many are free", line, "TestCalledBehindOthers", unit, []edit{
		{"o.slots[o.slot].arrived) || o.moreFree(others)\n", "o.slots[o.slot].arrived)\n"},
	}},
	{"whoever relies on a waiter that is called does not wake it", line, "TestCallerDiesBeforeItWakes", unit, []edit{
		{"		o.host.Wake(s, o.entryWord(s))\n	}\n	return s >= 0\n", "	}\n	return s >= 0\n"},
	}},
	{"a giver does not wake a waiter that is called already", line, "TestCallerDiesBeforeItWakes", unit, []edit{
		{"			t.wakeCalled(host)\n", ""},
		{"called.slot >= 0 && !called.isAfter(next.entry)", "called.slot >= MaxSlots"},
		{"punctual.slot >= 0 && punctual.slot", "punctual.slot >= MaxSlots && punctual.slot"},
	}},
	{"a waiter that leaves does not wake the one on which it relies", waiters, "TestCallerDiesBeforeItWakes", unit, []edit{
		{"!o.relyOn(^uint64(0))", "o.firstCalled(^uint64(0)) < 0"},
	}},
	{"newcomers take permits past those who wait", owner, "TestNewcomers", unit, []edit{
		{"l&ordered != 0 && !inTurn && !o.mayPass()", "l&ordered != 0 && !inTurn && !o.mayPass() && i < 0"},
	}},
	{"newcomers take permits past those who wait by the fast path", owner, "TestNewcomers", unit, []edit{
		{"l&limitMask || l >= ordered ||", "l&limitMask || int64(l) < 0 ||"},
	}},
	{"a waiter that is stuck keeps all others waiting", line, "TestStuck", unit, []edit{
		{"	return !within(patience, &t.slots[s].calledAt)\n", "	return patience == asleep && !within(patience, &t.slots[s].calledAt)\n"},
	}},
	{"those who are stopped together with one that is stuck keep others waiting", line, "TestStuck", unit, []edit{
		{"	turn = others == 0 || late && !within(stuck, &o.slots[o.slot].arrived) || o", "	turn = others == 0 || o"},
	}},
	{"a waiter that has just come passes all others if one is stuck", line, "TestStuck", unit, []edit{
		{"late && !within(stuck, &o.slots[o.slot].arrived) ||", "late ||"},
	}},
	{"newcomers pass all others if one is stuck", line, "TestStuck", unit, []edit{
		{"	return others == 0 || o.moreFree(others)\n}\n\n// Yields", "	return others == 0 || late || o.moreFree(others)\n}\n\n// Yields"},
	}},
	{"newcomers wait until the line is empty, however soon those in it are served", line, "TestNewcomersPassAgain", unit, []edit{
		{"!o.anyWaitsLong()", "o.slot > MaxSlots"},
	}},
	{"newcomers may pass the first when one behind it is served", line, "TestNewcomersPassAgain", unit, []edit{
		{"if first && o.limit", "if (first || turn) && o.limit"},
	}},
	{"newcomers may pass one that has waited for long, when the first one is served at once", line, "TestNewcomersPassAgain", unit, []edit{
		{"!o.anyWaitsLong()", "!o.waitsLong(o.slot)"},
	}},
	{"a ticket is larger than an entry has room for", line, "TestTicketsWrittenOver", unit, []edit{
		{"ticketOf(o.tickets.Add(1) << ticketShift)", "o.tickets.Add(1)"},
	}},
	{"a waiter that was reaped insists on what others write into its entry", line, "TestReapedThoughItLives", unit, []edit{
		{"		o.line[o.slot].Store(0)\n	}\n}\n\n// Vain", "	}\n}\n\n// Vain"},
	}},
	{"a server sleeps on beside a free permit", serve, "TestFreeBesideThoseStopped", whole, []edit{
		{" || s.owner.Free() {\n			return w, false\n", " {\n			return w, false\n"},
	}},
	{"a dead gatherer blocks others from being called", "internal/permits/gather.go", "TestBlockedByADeadOne", unit, []edit{
		{" && t.slots[g].live.Load()&futex.OwnerDied == 0 //", " && futex.OwnerDied != 0 //"},
	}},
	{"an owner that does not gather counts as the one that does", "internal/permits/gather.go", "TestGatheringWrittenOver", unit, []edit{
		{"!hasTicket(e) || e&severalBit == 0 {\n		return -1", "!hasTicket(e) && e&severalBit != 0 {\n		return -1"},
	}},
	{"one that does not gather any more keeps its part", "internal/permits/gather.go", "TestGatheringWrittenOver", unit, []edit{
		{"		if len(g.words) > 0 {\n			o.disperse()", "		if len(g.words) > MaxPermits {\n			o.disperse()"},
	}},
	{"a waiter that wanted several leaves, and its server does not look for the next one", queue, "TestSeveralInFrontIsCancelled", whole, []edit{
		{"		s.traits.Recoverable.StopGathering(w.Place)\n		s.back.Interrupt()\n", "		s.traits.Recoverable.StopGathering(w.Place)\n"},
	}},
	{"one that is blocked by one that gathers keeps those waiting to which that leaves permits", line, "TestGathererLeavesToThoseBetween", unit, []edit{
		{"|| o.gone(s, e) || o.blocked(s, e):\n		case o.late", "|| o.gone(s, e):\n		case o.late"},
	}},
	{"a handle hands permits to its own waiters, whoever came before", queue, "TestOrderAcrossProcesses", root, []edit{
		{"several() || recoverable.Owner().Yields(w.Place) {", "several() {"},
	}},
	{"a handle hands permits to its own waiters for ever", "internal/waitqueue/waitqueue.go", "TestHandOversAreBounded", root, []edit{
		{"q.alone >= mostAlone || others()", "q.alone >= mostAlone"},
	}},
	{"a handle from which others only try hands permits to its own waiters for ever", "internal/waitqueue/waitqueue.go", "TestHandOversAreBounded", root, []edit{
		{"q.alone >= mostAlone || ", ""},
	}},
	{"a permit that is given by a fast path ends no pause", core, "TestGiverEndsThePauseOfOneThatHasJustLooked", root, []edit{
		{"	if s.traits.Polls && !s.queue.Idle() {", "	if s.traits.Polls && s.queue.Idle() {"},
	}},
	{"closed files that the garbage collector has found count as referred to", mapped, "TestKeptMappings", below, []edit{
		{"	if !n.alive() {\n		return false\n	}\n", ""},
	}},
	{"all who find an owner dying look often at its lock", lookout, "TestOneLooksOften", whole, []edit{
		{"			return false\n		}\n		until", "			return true\n		}\n		until"},
	}},
	{"a lookout that looks no more is the lookout still", lookout, "TestLookOut", unit, []edit{
		{"left == 0 || left > lookoutLongest.Milliseconds()", "left < 0"},
	}},
	{"a dead lookout is the lookout still", lookout, "TestLookOut", unit, []edit{
		{"live.Value&futex.OwnerDied == 0 && entry", "live.Value&futex.OwnerDied != 1 && entry"},
	}},
	{"those who rely on a lookout do not watch it", lookout, "TestLookOut", unit, []edit{
		{"			if len(f.Watch) < cap(f.Watch) &&", "			if len(f.Watch) > cap(f.Watch) &&"},
	}},
	{"a lookout whom nobody needs any more does not look again", dying, "TestNoLookoutAnyMore", whole, []edit{
		{"			again = of.LookOutNoMore(k.DyingOwner) || again\n", "			of.LookOutNoMore(k.DyingOwner)\n"},
	}},
	{"the lookout of a dead owner is that of the slot's next one", owner, "TestLookOut", unit, []edit{
		{"	slot.lookout.Store(0) // it was of the owner before us\n", ""},
	}},
	{"a waiter that serves itself is given a permit and not woken", queue, "TestGivenToOneThatServesItself", whole, []edit{
		{"(s.traits.Polls || s.selfServed.Load())", "s.traits.Polls"},
	}},
	{"a waiter that serves itself goes on for others", queue, "TestGivenToOneThatServesItself", whole, []edit{
		{"	if t.own == nil || t.s.queue.Waits(t.own) {", "	if t.own == nil || t.s.queue.Waits(t.own) || !t.passed {"},
	}},
	{"a waiter that serves itself panics and leaves the others without a server", queue, "TestPanicOfOneThatServesItself", whole, []edit{
		{"	defer func() {\n		if !served {", "	defer func() {\n		if !served && t.passed {"},
	}},
	{"Announce does not set the word's bit in the summary", owner, "TestTakeAndGive", unit, []edit{
		{"	o.offer(i)\n	o.Notify(1)\n", "	o.Notify(1)\n"},
	}},

	// What must be read again after the compare-and-swap.
	{"the fast path does not check again whether the handle is closed", core, "TestTakeAgainstClose", whole, []edit{
		{"	if s.closed() {\n		return s.undo(n)", "	if s.closed() && n != ofHandle {\n		return s.undo(n)"},
	}},
	{"Wait does not check again whether the handle is closed", queue, "TestTakeAgainstClose", whole, []edit{
		{"	if s.closed() {\n		// Post would refuse", "	if false {\n		// Post would refuse"},
	}},
	{"Acquire does not check again whether the handle is closed", "permit.go", "TestTakeAgainstClose", whole, []edit{
		{"	if s.closed() {\n		// Close may have missed", "	if false {\n		// Close may have missed"},
	}},
	{"Acquire's fast path does not check again whether the handle is closed", core, "TestTakeAgainstClose", whole, []edit{
		{"	if s.closed() {\n		return s.undo(n)", "	if s.closed() && n == ofHandle {\n		return s.undo(n)"},
	}},
	{"Release gives by the fast path and does not say so", "permit.go", "TestConformancePermits", root, []edit{
		{"	if !p.released && p.giveFast() {\n		p.released = true\n", "	if !p.released && p.giveFast() {\n"},
	}},
	{"a permit that came when the context had ended stays with the waiter", queue, "TestConformanceContextEndsBeforeTheTaking", root, []edit{
		{"	if ctx.Err() != nil {\n		s.giveBack(got, want)", "	if false {\n		s.giveBack(got, want)"},
	}},
	{"the fast path does not ask the context again", core, "TestConformanceContextEndsBeforeTheTaking", root, []edit{
		{"		if err := ctx.Err(); err != nil {\n			s.undo(ofHandle)", "		if err := ctx.Err(); false {\n			s.undo(ofHandle)"},
	}},
	{"Acquire's fast path does not ask the context again", "permit.go", "TestConformanceContextEndsBeforeTheTaking", root, []edit{
		{"		if err := ctx.Err(); err != nil {\n			s.undo(n)", "		if err := ctx.Err(); false {\n			s.undo(n)"},
	}},
	{"a Close does not wait for another one", "close.go", "TestConformanceCloseWhileClosing", root, []edit{
		{"		s.awaitShut()\n	}\n	if s.opts.closeOnExit {\n		awaitEnd([]*Semaphore{s})\n	}\n", "	}\n"},
	}},
	{"the fast path does not read the limit again", owner, "TestLoweringAtEachStep", unit, []edit{
		{"	if uint64(home) >= l&limitMask", "	trace(Taking)\n	if uint64(home) >= l&limitMask"},
		{"	return int(home), o.limit.Load() == l\n", "	return int(home), true\n"},
	}},
	{"Acquire's fast path does not read the limit again", owner, "TestLoweringAtEachStep", unit, []edit{
		{"			return i, o.limit.Load() == l\n", "			return i, true\n"},
	}},
	{"Acquire's fast path takes while the times of a permit are known", owner, "TestTimesAreThoseOfTheLastTake", unit, []edit{
		{"|| o.home.Load()&timed != 0 {", "{"},
	}},
	{"confirm keeps a word above the limit", limit, "TestTakeAgainstLowering", unit, []edit{
		{"		case i >= n:\n			return false\n", "		case i >= n:\n			return true\n"},
	}},
	{"takers keep their word while the limit shrinks, however many are held", limit, "TestTakersCountAfterwards", unit, []edit{
		{"held > n {\n			return false", "held > n {\n			return true"},
	}},
	{"shrink clears the flag while words above the limit are held", limit, "TestShrinking", unit, []edit{
		{"	if highest < limitOf(l) {", "	if highest < len(o.words) {"},
	}},

	{"SetLimit does not change the version", limit, "TestLoweringTwice", unit, []edit{
		{"(limitMask|limitSet)+limitVersion)", "(limitMask|limitSet))"},
		{"		if o.limit.CompareAndSwap(l, l&^shrinking) {", "		trace(Taking)\n		if o.limit.CompareAndSwap(l, l&^shrinking) {"},
	}},

	// An open file that holds permits.
	{"nobody is told that a permit was handed to an open file", "internal/permits/handed.go", "TestHandTo", unit, []edit{
		{"	o.Notify(1)\n	return true\n", "	return true\n"},
	}},
	{"an open file gets several permits", handed, "TestHandTo", whole, []edit{
		{"if len(slots) > 0 {", "if len(slots) > permits.MaxSlots {"},
	}},
	{"unlock gives back what other open files hold", handed, "TestHandTo", whole, []edit{
		{"		if others {\n			continue\n		}\n", "		_ = others\n"},
	}},
	{"unlock gives back what a handle holds whose lock was passed on", handed, "TestHandTo", whole, []edit{
		{"			if !h.table.ByFile(s) {", "			if false {"},
	}},
	{"a name is removed by a process that has not the claim", unused, "TestUnlinkUnusedAgainstOpen", whole, []edit{
		{"	claimed, err := lockClaimWithin(briefly, locks, second)\n", "	claimed, err := true, error(nil)\n"},
		{"	defer locks.unlockClaim(second)\n", "	defer second.Close()\n"},
		{"	h := &handle{f: f, path: path, locks: locks}\n	if err := h.seesClaim(second); err != nil {\n		return err\n	}\n", ""},
	}},
	{"a handle that holds nothing does not keep its name", unused, "TestUnlinkUnused$", whole, []edit{
		{"	in := &engine.InUse{}\n", "	in := &engine.InUse{}\n	alive = false\n"},
		{"		in.Users = append(in.Users, holder(u))\n	}\n", "		in.Users = append(in.Users, holder(u))\n		alive = alive || u.Permits > 0 || u.Waits\n	}\n	if !alive {\n		return nil\n	}\n"},
	}},

	// At most one start in a period.
	{"a start is not noted", every, "TestStartEvery", unit, []edit{
		{"	if begin {\n", "	if false {\n"},
	}},
	{"whoever looks when it may start notes a start", every, "TestStartEvery", unit, []edit{
		{"	if begin {\n", "	if true {\n"},
	}},
	{"the clock of another boot counts", every, "TestStartEvery", unit, []edit{
		{"boot != 0 && boot == now.Boot", "boot != 0"},
	}},
	{"the time of day counts in the same boot too", every, "TestStartEvery", unit, []edit{
		{"boot != 0 && boot == now.Boot", "boot != 0 && wall < 0"},
	}},
	{"a start that is yet to come is waited for", every, "TestStartEvery", unit, []edit{
		{"		s.note(now)\n		passed = 0\n", ""},
	}},
	{"whether it may start is asked before the lock of the claim is taken", engine, "TestStartEveryOfMany", whole, []edit{
		{"(left time.Duration, err error) {\n	unlock", "(left time.Duration, err error) {\n	left = time.Duration(h.table.StartEvery(moment(), int64(period), false))\n	unlock"},
		{"	return time.Duration(h.table.StartEvery(moment(), int64(period), start)), nil", "	if left == 0 && start {\n		h.table.StartEvery(moment(), 1, true)\n	}\n	return left, nil"},
	}},

	// A waiter that leaves, and whatever gives back permits of others, notifies.
	{"a waiter that leaves does not pass on a wake-up", waiters, "TestLeavePassesOn", unit, []edit{
		{"(woken || o.room() && o.mayTake() && !o.relyOn(^uint64(0)))", "woken"},
	}},
	{"a waiter that leaves without the permit it was woken for notifies no waiter of its taker", waiters, "TestLeavePassesOn", unit, []edit{
		{"	woken = woken || o.unused\n", ""},
	}},
	{"a waiter that was called in vain forgets that", line, "TestWokenForNothingAndCancelled", whole, []edit{
		{"	if o.stands(ticket) {\n		o.unused = true\n	}\n	turn", "	o.stands(ticket)\n	turn"},
	}},
	{"a waiter that leaves does not pass on the report of an exit", waiters, "TestLeavePassesOn", unit, []edit{
		{"	if changed(slept) {", "	if changed(nil) {"},
	}},
	{"Reap notifies no waiter", reaping, "TestReapingNotifies", unit, []edit{
		{"	o.Notify(f.Back())\n", ""},
	}},
	{"claiming a dead owner's slot notifies no waiter", owner, "TestReapingNotifies", unit, []edit{
		{"	o.Notify(freed)\n	slot.clearing.Store(0)\n", "	slot.clearing.Store(0)\n"},
	}},
	{"claiming the slot of an owner that died while giving notifies no waiter", owner, "TestClaimNotifiesForTheDead", unit, []edit{
		{"		freed = max(freed, 1)\n	}\n	o.Notify(freed)", "	}\n	o.Notify(freed)"},
	}},
	{"SetLimit notifies no waiter", limit, "TestReapingNotifies", unit, []edit{
		{"	o.Notify(more)\n", "	_ = more\n"},
	}},
	{"a resize without a slot wakes no waiter", limit, "TestReapingNotifies", unit, []edit{
		{"		s, woken := t.callFirst(host)\n", "		s, woken := -1, false\n"},
	}},
	{"GiveAll notifies no waiter", owner, "TestReapingNotifies", unit, []edit{
		{"	} else {\n		o.Notify(n)\n	}\n	return n\n", "	}\n	return n\n"},
	}},
	{"Heal ignores that the number has changed", waiters, "TestHealAgainstJoin", unit, []edit{
		{"		o.waiters.CompareAndSwap(w, (w>>32+1)<<32|uint64(n))\n", "		trace(Taking)\n		o.waiters.Store((w>>32+1)<<32 | uint64(n))\n"},
	}},
	{"Join counts the waiter before the line says that it waits", waiters, "TestJoinAndLeaveAgainstHealing", unit, []edit{
		{"	o.line[o.slot].Store(o.entry)\n	o.waiters.Add(oneChange + oneWaiter)\n", "	o.waiters.Add(oneChange + oneWaiter)\n	trace(Taking)\n	o.line[o.slot].Store(o.entry)\n"},
	}},
	{"Leave leaves the line before it uncounts the waiter", waiters, "TestJoinAndLeaveAgainstHealing", unit, []edit{
		{"	w := o.waiters.Add(oneChange - oneWaiter)\n", "	o.line[o.slot].Store(0)\n	trace(Taking)\n	w := o.waiters.Add(oneChange - oneWaiter)\n"},
	}},
	{"Heal does not reduce the number of waiters", waiters, "TestWaitersAreHealed", unit, []edit{
		{"	if n < waitersOf(w) {", "	if n > waitersOf(w) {"},
	}},

	// Which owners are dead.
	// Several permits at once.
	{"the limit is not read again after the last permit was gathered", several, "TestAllAgainstSetLimit", unit, []edit{
		{"		if (o.limit.Load()^l)&^ordered&^shrinking != 0 {\n			continue\n		}\n		if n == All", "		if n == All"},
	}},
	{"one that has all is not alone while the limit shrinks", several, "TestAllWhileTheLimitShrinks", unit, []edit{
		{"held > len(words)", "held < 0"},
	}},
	{"two gather at the same time", several, "TestOneGathers", unit, []edit{
		{"	case o.gathers() >= 0:\n		return false\n", ""},
	}},
	{"those behind leave one that wants several only one permit", line, "TestLeftForSeveral", unit, []edit{
		{"			others += o.wanted(s, e)\n", "			others++\n"},
	}},
	{"one that gathers leaves nothing to those before it", several, "TestGathererBehindOthers", unit, []edit{
		{"before > 0 {\n", "before > MaxSlots {\n"},
	}},
	{"of many permits each is kept, however many are held while the limit shrinks", limit, "TestManyCountAfterwards", unit, []edit{
		{"			over = held - n\n", "			over = min(held-n, 0)\n"},
	}},
	{"of many permits those above the limit are kept", limit, "TestManyAgainstLowering", unit, []edit{
		{"(over > 0 || words[len(words)-1] >= n)", "over > 0"},
	}},
	{"one that gathers is not called for what comes back above the limit while one is before it", waiters, "TestAllWhileTheLimitShrinksBehindOthers", unit, []edit{
		{"			o.callGathererBehind(o.host, s)\n", ""},
	}},
	{"whoever gathers no more still counts as one that does", several, "TestAnotherGathersUnderALowerLimit", unit, []edit{
		{"	g.ticket, g.words = 0, nil\n	if o.endGathering(o.word) {\n", "	g.ticket, g.words = 0, nil\n	if freed > MaxPermits {\n"},
	}},
	{"a dead one that gathered still counts as one that does", reaping, "TestGatheringEnds", unit, []edit{
		{"	return freed, o.endGathering(ownerWord(s, gen))\n", "	return freed, false\n"},
	}},
	{"reaping one that gathers, and has nothing, notifies nobody", reaping, "TestGatheringEnds", unit, []edit{
		{"		return max(f.Freed, 1)\n", "		return f.Freed\n"},
	}},
	{"one that gathers is not watched", reaping, "TestGathererIsWatched", unit, []edit{
		{"	if s := o.gathers(); s >= 0 {\n", "	if s := o.gathers(); s >= MaxSlots {\n"},
	}},
	{"one that gathers is not called when the limit is lowered", limit, "TestLimitBelowWhatIsWanted", unit, []edit{
		{"	o.callGatherer(o.host)\n", ""},
	}},
	{"one that wants more than there are keeps what it has", several, "TestLimitBelowWhatIsWanted", unit, []edit{
		{"	if o.wantsTooMany(o.slot, o.entry) {\n		o.disperse()\n		return", "	if o.wantsTooMany(o.slot, o.entry) {\n		return"},
	}},
	{"others wait for one that wants more than there are", line, "TestLimitBelowWhatIsWanted", unit, []edit{
		{" || t.wantsTooMany(s, entry)\n", "\n"},
	}},
	{"one that cannot take the permit that it sees calls nobody", line, "TestOneGathers", unit, []edit{
		{"			o.callFirst(o.host)\n", ""},
	}},
	{"what is above a lowered limit stays gathered", several, "TestGatheredAboveTheLimit", unit, []edit{
		{" || i >= limit && o.GiveAt(i)\n", "\n"},
	}},
	{"TryAcquireN keeps a part", several, "TestTakeSeveral", unit, []edit{
		{"		o.GiveSeveral(words)\n", ""},
	}},
	{"what was gathered for a waiter that is cancelled stays taken", queue, "TestConformanceSeveralInLine", root, []edit{
		{"				s.stopGathering(w)\n", ""},
	}},
	{"one permit is handed over to a waiter that wants several", queue, "TestConformanceSeveralWithinAHandle", root, []edit{
		{"wants(w.Wants).several() || recoverable", "recoverable"},
	}},
	// Several permits given at once.
	{"PostN gives several permits, and wakes one waiter", words, "TestPostNWakesAcrossProcesses", root, []edit{
		{"				futex.Wake(w.valueHalf(), n)\n", "				futex.Wake(w.valueHalf(), 1)\n"},
	}},
	{"GiveN calls one waiter", owner, "TestGiveN", unit, []edit{
		{"	o.Notify(n)\n	return n\n", "	o.Notify(1)\n	return n\n"},
	}},
	{"GiveN does not mark what it counts", owner, "TestGiveNAgainstStaleHome", unit, []edit{
		{" && o.words[i].CompareAndSwap(o.word, o.word|forPermitBit) {", " {"},
		{"		o.words[i].CompareAndSwap(o.word|forPermitBit, then)\n", "		o.words[i].CompareAndSwap(o.word, then)\n"},
	}},
	{"GiveN of too few leaves its marks", owner, "TestGiveN", unit, []edit{
		{"		then = o.word\n", "		then = o.word | forPermitBit\n"},
	}},
	{"undo gives any word in place of one that GiveN had marked", owner, "TestGiveNAgainstUndo", unit, []edit{
		{"	freed := o.words[i].CompareAndSwap(o.word, 0)\n", "	freed := false\n"},
	}},
	{"what PostN could not give is not counted as held again", core, "TestPostNCounts", root, []edit{
		{"		s.recount(counted)\n		if s.traits", "		if s.traits"},
	}},

	{"dead owners are not reaped", reaping, "TestReap", unit, []edit{
		{"	freed, ended := o.reapOwner(s, gen, entry)\n", "	_, freed, ended := entry, 0, false\n"},
	}},
	{"an owner whose exit was reported is reaped, whatever its lock says", reaping, "TestReportBeforeTheLock", unit, []edit{
		{"	if alive {\n		f.Unheard =", "	if alive && live&futex.OwnerDied == 0 {\n		f.Unheard ="},
	}},
	{"what is taken as the handle closes stays taken", reaping, "TestTakenAfterClose", unit, []edit{
		{"left := slot.state.Load() == slotFree\n", "left := slot.state.Load() > slotUsed\n"},
	}},
	{"a waiter that noticed an exit looks no sooner", serve, "TestWaiterLooksSoonAfterAnExit", storm, []edit{
		{"if s.heard && s.netExited.IsZero()", "if s.heard && s.found.Held < 0"},
		{"if s.netExited.IsZero() && (s.heard", "if found.Held < 0 && (s.heard"},
	}},
	{"a waiter does not compare its words until it looks", serve, "TestLostReport", whole, []edit{
		{"for ; left > engine.SafetyNet; left", "for ; left > time.Hour; left"},
	}},
	{"a waiter does not see that the others have left", serve, "TestOthersLeave", whole, []edit{
		{" || s.owner.Fewer(&s.found) || s.owner.Free() {", " || s.owner.Free() {"},
	}},
	{"a waiter relies on the others that it saw when it began to wait", serve, "TestBurstHidesAnExit", storm, []edit{
		{"	net := nextLook(s.netLooked, s.netExited, s.found,", "	if s.first.Others == 0 {\n		s.first = s.found\n	}\n	net := nextLook(s.netLooked, time.Time{}, s.first,"},
		{"	found   permits.Findings\n", "	found   permits.Findings\n	first   permits.Findings\n"},
	}},
	{"a waiter relies on the kernel although it hears of no exits", serve, "TestNextLookOfOneThatReliesOnNobody", whole, []edit{
		{"if hears && !found.Unheard && period", "if !found.Unheard && period"},
	}},
	{"reaping leaves an entry of the line that no waiter has written", reaping, "TestReapingEnds", unit, []edit{
		{"(now^entry)&^(calledBit|idleBit) == 0 {", "hasTicket(now) && ticketOf(now) <= o.tickets.Load() {"},
	}},
	{"reaping does not compare who waits", reaping, "TestLateReaperOfAWaiter", unit, []edit{
		{"(now^entry)&^(calledBit|idleBit) == 0 {", "true {"},
	}},
	{"reaping ignores the generation of words", reaping, "TestLateCleaner", unit, []edit{
		{"return w>>genShift == owner })", "return slotOf(w) == slotOf(owner<<genShift) })"},
	}},
	{"a word of an older generation is not stale", reaping, "TestLateCleaner", unit, []edit{
		{" || o.slots[s].gen.Load() != genOf(w)", ""},
	}},
	{"claiming a slot does not change its generation", owner, "TestLateCleaner", unit, []edit{
		{"slot.gen.Load()&genMask + 1\n", "max(1, slot.gen.Load()&genMask)\n"},
	}},
	{"waiters do not watch other waiters", reaping, "TestWatch", unit, []edit{
		{"			ahead.add(s, ticketOf(e))\n", ""},
	}},
	{"the liveness word is not put on the robust list", sleep, "TestWaitReturnsPermitOfDeadHolder", whole, []edit{
		{"	h.robustEntry.Add(word, (*uintptr)(unsafe.Add(unsafe.Pointer(word), -futex.Distance)))\n", "	_, _ = word, unsafe.Sizeof(word)\n"},
	}},
	{"the liveness word does not have FUTEX_WAITERS", "internal/futex/robust_linux.go", "TestWaitReturnsPermitOfDeadHolder", whole, []edit{
		{"	word.Store(robust.thread | Waiters)\n", "	word.Store(robust.thread)\n"},
	}},

	// The summary.
	{"a taker that clears a bit of the summary does not write the group into its slot", hint, "TestClearerIsKilled", unit, []edit{
		{"	own.Store(uint32(g) + 1)\n", ""},
		{"	o.summary[g/64].And(^uint64(1 << (g % 64)))\n", "	o.summary[g/64].And(^uint64(1 << (g % 64)))\n	trace(Taking)\n"},
	}},
	{"takers do not search the groups that slots name", hint, "TestClearerDies", unit, []edit{
		{"g := int(o.slots[s].clearing.Load()) - 1; g > 0 && g <= last", "g := int(o.slots[s].clearing.Load()) - 1; g > last"},
	}},

	// The numbers of Permits.
	{"a Permit gets the word that its handle took last", hint, "TestPermitsTakeTheLowestWord", unit, []edit{
		{"if forPermit && n <= groupSize {", "if forPermit && n < 0 {"},
	}},

	// The times and the label of a holder.
	{"a permit that was not waited for has the times of the one before it", owner, "TestTimesAreThoseOfTheLastTake", unit, []edit{
		{"	o.forget()\n", ""},
	}},
	{"the fast path takes while the times of a permit are known", since, "TestTimesAreThoseOfTheLastTake", unit, []edit{
		{"	o.home.Store(o.home.Load() | timed)\n", ""},
	}},
	{"a permit that is given by the slow path lets the fast path take while times are known", owner, "TestTimesAreThoseOfTheLastTake", unit, []edit{
		{"uint32(i) | o.home.Load()&timed", "uint32(i)"},
	}},
	{"the fast path takes from a home that is timed", owner, "TestTimesAreThoseOfTheLastTake", unit, []edit{
		{"	if uint64(home) >= l&limitMask", "	if uint64(uint16(home)) >= l&limitMask"},
	}},
	{"a permit that is handed over within a handle has the times of the one that gave it", owner, "TestConformanceHolders", root, []edit{
		{"			o.stamp(began)\n", ""},
	}},
	{"Holders shows a new owner with the permits of the dead one", reaping, "TestSlotGetsOthersWhileSomebodyLooks", unit, []edit{
		{"held := make(map[uint64]int)", "held := make(map[int]int)"},
		{"held[w>>genShift]++", "held[slotOf(w)]++"},
		{"held[ownerWord(s, gen)>>genShift]", "held[s+int(gen-gen)]"},
	}},
	{"whoever looks takes what a claimer has written for the earlier owner's", since, "TestSlotGetsAnotherOwner", unit, []edit{
		{"h.Opened != 0 && ", ""},
	}},
	{"whoever looks does not look again whether the slot has got another owner", since, "TestSlotGetsOthersWhileSomebodyLooks", unit, []edit{
		{"h.Opened != 0 && slot.opened.Load() == h.Opened && slot.gen.Load() == gen", "h.Opened != 0"},
	}},
	{"a slot says who its new owner is before it has another generation", owner, "TestSlotGetsOthersWhileSomebodyLooks", unit, []edit{
		{"	slot.gen.Store(gen)\n	slot.accept(id)\n", "	slot.accept(id)\n	slot.gen.Store(gen)\n"},
	}},
	{"a slot's new owner has the times of the dead one", since, "TestSlotGetsAnotherOwner", unit, []edit{
		{"	s.since.Store(0)\n	s.waited.Store(0)\n	byFile", "	byFile"},
	}},
	{"a slot's new owner has the label of the dead one", since, "TestSlotGetsAnotherOwner", unit, []edit{
		{"		s.label[i].Store(binary.NativeEndian.Uint64(label[8*i:]))\n", "		if id.Label != \"\" {\n			s.label[i].Store(binary.NativeEndian.Uint64(label[8*i:]))\n		}\n"},
	}},

	// Close, hand-overs, the claim, the limit.
	{"Close does not sweep", owner, "TestCloseGivesBack", whole, []edit{
		{"	n = o.sweep(func(w uint64) bool { return w>>genShift == o.word>>genShift })\n", ""},
	}},
	{"a permit is handed over while the limit shrinks", queue, "TestLoweredLimitAgainstHandOver", whole, []edit{
		{"(recoverable == nil || !recoverable.Owner().Shrinking())", "true"},
	}},
	{"a permit above the limit is handed over", owner, "TestHandOverAgainstLowering", unit, []edit{
		{"toPermit && i >= limitOf(o.limit.Load())", "toPermit && i > len(o.words)"},
	}},
	{"Open does not take the claim's lock", engine, "TestClaimIsExclusive", whole, []edit{
		{"	if unlock, err = h.lockClaimOf(second); err != nil {\n		return nil, err\n	}\n	if err := h.seesClaim(second); err != nil {\n		return nil, err\n	}\n	if gone", "	if gone"},
	}},
	{"SetLimit does not take the claim's lock", engine, "TestClaimIsExclusive", whole, []edit{
		{"	unlock, err := h.lockClaim()\n	if err != nil {\n		return err\n	}\n	defer unlock()\n	defer h.kick.Send()\n", "	defer h.kick.Send()\n"},
	}},
	{"Open sets another limit while other owners live", engine, "TestLimitOfAnExistingOne", whole, []edit{
		{"	if lives {\n		return true, engine.Because", "	if lives && n < 0 {\n		return true, engine.Because"},
	}},
	{"an owner that lives on as another program does not count as living", owner, "TestExecKeepsTheLimit", whole, []edit{
		{"s != o.slot && o.mayLive(s)", "s != o.slot && o.occupied(s)"},
	}},
	{"Open replaces a limit that SetLimit has set", engine, "TestLimitOfAnExistingOne", whole, []edit{
		{"!h.opts.ValueSet || set || n", "!h.opts.ValueSet || set && n < 0 || n"},
	}},
	{"a file of an older version is replaced though it is in use", older, "TestFileOfAnOlderVersionInUse", whole, []edit{
		{"	} else if alive {\n		return older.inUse()\n", "	} else if alive && !alive {\n		return older.inUse()\n"},
	}},
	{"a file of an older version is replaced while another process claims a slot", older, "TestFileOfAnOlderVersionInUse", whole, []edit{
		{"	if !claimed {\n", "	claimed = claimed || err == nil\n	if !claimed {\n"},
		{"	if err := h.seesClaim(second); err != nil {", "	if err := h.seesClaim(second); err != nil && claimed {"},
	}},
	{"a file of an older version is replaced while other processes may create", older, "TestReplacingTakesTheLockOfTheDirectory", whole, []edit{
		{"	if how == engine.OpenExisting {\n", "	if false {\n"},
	}},
	{"a limit that SetLimit has set is lost with a file of an older version", "internal/permits/older.go", "TestIdleFileOfAnOlderVersion", whole, []edit{
		{"limit & (limitMask | limitSet)", "limit & limitMask"},
	}},

	{"several names are taken in the order of the arguments", "internal/command/several.go", "TestAlsoTakesInOneOrder", cmd, []edit{
		{"	slices.SortFunc(all, func(a, b *holding) int { return cmp.Compare(a.name, b.name) })\n", "	_ = cmp.Compare[string]\n"},
	}},
	{"what PROCSEM_HELD says is believed", "internal/command/deadlock.go", "TestHeldThatIsOver", cmd, []edit{
		{"return a.pid == h.PID && a.opened == h.Opened.UnixNano()", "return true"},
	}},
	{"a handle is taken for another one of the same process", "internal/command/deadlock.go", "TestHeldThatIsOver", cmd, []edit{
		{"return a.pid == h.PID && a.opened == h.Opened.UnixNano()", "return a.pid == h.PID"},
	}},
	{"any permit that the callers hold is a deadlock", "internal/command/deadlock.go", "TestWaitForOthersBesideCallers", cmd, []edit{
		{"if held == 0 || k != permits.All && o.Limit-held >= k {", "if held == 0 {"},
	}},
	{"a procsem in the background waits on when nobody waits for it", "internal/command/background_unix.go", "TestBackgroundGivesUpWithFront", cmd, []edit{
		{"if l.gone = !l.begun; l.gone {", "if false {"},
	}},
	{"a command in the background is in the session of the shell", "internal/command/background_unix.go", "TestBackgroundIsApartFromTerminal", cmd, []edit{
		{"&syscall.SysProcAttr{Setsid: true}", "&syscall.SysProcAttr{}"},
	}},

	// Mutants that the storms must find by themselves.
	{"storm: the command does not inherit the locks", "internal/command/run.go", "TestStormOfCommands", cmd, []edit{
		{"	if !isSet(cmd, closeFlag) {\n", "	if isSet(cmd, closeFlag) {\n"},
	}},
	{"storm: the command inherits the lock of the first name only", "internal/command/exec_unix.go", "TestStormOfCommands", cmd, []edit{
		{"	for _, s := range all {\n", "	for _, s := range all[:1] {\n"},
	}},
	{"storm: procsem becomes the command and leaves the locks behind", "internal/command/exec_unix.go", "TestStormOfCommands", cmd, []edit{
		{"	done, err := inheritLocks(all)\n", "	done, err := inheritLocks(nil)\n"},
	}},
	{"storm: the fast path does not check again whether the handle is closed", core, "TestStorm", storm, []edit{
		{"	if s.closed() {\n		return s.undo(n)", "	if s.closed() && n != ofHandle {\n		return s.undo(n)"},
	}},
	{"storm: an owner whose exit was reported is reaped, whatever its lock says", reaping, "TestStorm", storm, []edit{
		{"	if alive {\n		f.Unheard =", "	if alive && live&futex.OwnerDied == 0 {\n		f.Unheard ="},
	}},
	{"storm: Slots returns the same number for all", "permit.go", "TestStormWithoutKills", storm, []edit{
		{"	return slices.Clone(p.numbers())\n", "	return slices.Repeat([]int{0}, len(p.numbers()))\n"},
	}},
	{"storm: a waiter that looks by itself gets a new ticket", serve, "TestStormOfWaiters", storm, []edit{
		{"		if t.Pass(func() { s.serve(t) }) {\n", "		if s.netDue {\n			t.Enroll(s.owner.Ticket, s.owner.Vain)\n		}\n		if t.Pass(func() { s.serve(t) }) {\n"},
	}},
	{"storm: newcomers take permits past those who wait", owner, "TestStormOfWaiters", storm, []edit{
		{"l&ordered != 0 && !inTurn && !o.mayPass()", "l&ordered != 0 && !inTurn && !o.mayPass() && i < 0"},
		{"l&limitMask || l >= ordered ||", "l&limitMask || int64(l) < 0 ||"},
	}},
	{"storm: Notify does nothing", waiters, "TestStormWithoutKills", storm, []edit{
		{"	for n > 0 {\n		w :=", "	for n > MaxPermits {\n		w :="},
	}},
	// The module etcd.
	{"a holder is valid until it is told that it has lost", leases, "TestStoppedHolder", etcd, []edit{
		{"return !l.gone.Load() && int64(latest()) < l.deadline.Load()", "return !l.gone.Load()"},
	}},
	{"a lease's time is reckoned from when it was granted", leases, "TestTimeIsReckonedFromBeforeAsking", etcd, []edit{
		{"	l.deadline.Store(int64(sent + l.ttl))", "	sent = latest()\n	l.deadline.Store(int64(sent + l.ttl))"},
	}},
	{"a lease's time is reckoned from when the answer to a renewal came", leases, "TestTimeIsReckonedFromBeforeAsking", etcd, []edit{
		{"			l.deadline.Store(int64(sent + min(", "			l.deadline.Store(int64(max(sent, latest()) + min("},
	}},
	{"that the lease is not found is ignored", grants, "TestIdleLeaseEnds", etcd, []edit{
		{"			g.lease.lose()\n		case err != nil && err != errRejoin:", "			continue\n		case err != nil && err != errRejoin:"},
	}},
	{"what a lost holder held is given to others at once", grants, "TestEarlyEndOfLease", etcd, []edit{
		{"(least() - seen.At); left > 0 {", "(least() - seen.At); left > delayLimit {"},
		{"// bury removes", "const delayLimit = time.Hour\n\n// bury removes"},
	}},
	{"a handle does not watch its own places", grants, "TestPlaceDeleted", etcd, []edit{
		{"	h.background.Go(func() { h.watchOwn(l) })\n", ""},
	}},
	{"a request that comes to pass late is left where it is", grants, "TestLateTransactions", etcd, []edit{
		{"				if time.Since(came.at) > time.Second {", "				if time.Since(came.at) > time.Hour {"},
		{"		case <-look.C:\n			h.compareOwn(prefix)\n", "		case <-look.C:\n"},
		{"			if e.Created {\n				h.compareOwn(prefix)", "			if e.Created && ctx.Err() != nil {\n				h.compareOwn(prefix)"},
	}},
	{"a grant does not ask whether the limit is another one", grants, "TestNothingIsGivenOfAnOldState", etcd, []edit{
		{"		clientv3.Compare(clientv3.ModRevision(h.prefix+\"limit\"), \"=\", s.limitAt),\n		clientv3.Compare(clientv3.ModRevision(h.prefix+\"g/\")", "		clientv3.Compare(clientv3.ModRevision(h.prefix+\"g/\")"},
	}},
	{"a grant does not ask whether others were granted", grants, "TestNothingIsGivenOfAnOldState", etcd, []edit{
		{"		clientv3.Compare(clientv3.ModRevision(h.prefix+\"g/\"), \"<\", s.revision+1).WithPrefix(),\n", ""},
	}},
	{"a grant does not ask whether its own place is there", grants, "TestNothingIsGivenOfAnOldState", etcd, []edit{
		{"append(h.unchanged(s), clientv3.Compare(clientv3.CreateRevision(h.key(\"q/\", g.id)), \"=\", g.created))", "h.unchanged(s)"},
	}},
	{"the next one is told of the rest without what was taken", grants, "TestWhatIsToldOfTheRest", etcd, []edit{
		{"m.Held, m.Limit, m.LimitAt = in.sum()+n, in", "m.Held, m.Limit, m.LimitAt = in.sum(), in"},
	}},
	{"what was told under another limit is believed", "etcd/state.go", "TestWhatIsToldOfTheRest", etcd, []edit{
		{" || m.LimitAt != told.limitAt {", " {"},
	}},
	{"what was told of an earlier place of the one ahead is believed", "etcd/state.go", "TestWhatIsToldOfTheRest", etcd, []edit{
		{" || place.CreateRevision != s.line[other].created", ""},
	}},
	{"the next one reads what it was told", grants, "TestRaiseMakesFewRead", etcd, []edit{
		{"next := s.after(g.id, other, last.Kv); next != nil {", "next := s.after(g.id, other, last.Kv); next != nil && ctx.Err() != nil {"},
	}},
	{"TryAcquire does not ask whether others have come", grants, "TestCachedStateDoesNotOvertake", etcd, []edit{
		{"append(h.unchanged(s), h.nobodyCame(s), absent(", "append(h.unchanged(s), absent("},
	}},
	{"Acquire does not ask whether others have come", grants, "TestCachedStateDoesNotOvertake", etcd, []edit{
		{"clientv3.OpTxn(append(h.unchanged(s), h.nobodyCame(s)), append(", "clientv3.OpTxn(h.unchanged(s), append("},
	}},
	{"when a lost holder was seen first is not noted", grants, "TestDeathAmongThoseThatTry", etcd, []edit{
		{"				first = thisMachine() != \"\"", "				first = false"},
	}},
	{"every waiter watches all", grants, "TestHandOverWakesFew", etcd, []edit{
		{"		keys = append(keys, h.key(\"q/\", other))\n", "		keys = append(keys, h.prefix+\"q/\")\n"},
		{"	events := h.watch(watching, keys)\n", "	events := h.watch(watching, keys, clientv3.WithPrefix())\n"},
	}},
}

func main() {
	only := flag.String("run", "", "run only the mutants whose name matches this regular expression")
	kills := flag.Int("kills", 800, "how many kills the storms make to find a mutant")
	flag.Parse()
	dir, err := os.MkdirTemp("", "semaphore-mutants-")
	must(err)
	defer os.RemoveAll(dir)
	wanted := regexp.MustCompile(*only)
	mutants := slices.DeleteFunc(mutants, func(m mutant) bool { return !wanted.MatchString(m.name) })
	if !sound(mutants, dir, *kills) {
		os.Exit(1)
	}
	// The next one is built while one is tested.
	built := make(chan build)
	go func() {
		defer close(built)
		for i, m := range mutants {
			built <- m.build(filepath.Join(dir, fmt.Sprint(i)))
		}
	}()
	code := 0
	for b := range built {
		start := time.Now()
		how, found := b.find(*kills)
		verdict := "found"
		if !found {
			verdict, code = "NOT FOUND", 1
		}
		fmt.Printf("%-9s %5.1f s | %s | %s | %s\n", verdict, time.Since(start).Seconds(), b.name, b.test, how)
	}
	if code != 0 {
		os.RemoveAll(dir)
		os.Exit(code)
	}
}

// sound runs the tests without a mutant: tests that fail anyway show nothing.
func sound(mutants []mutant, dir string, kills int) bool {
	tests := make(map[string]map[string]bool)
	for _, m := range mutants {
		if strings.Contains(m.test, "Storm") {
			continue // they take long, and the tests run them
		}
		if tests[m.pkg] == nil {
			tests[m.pkg] = make(map[string]bool)
		}
		tests[m.pkg][m.test] = true
	}
	for pkg, names := range tests {
		binary := filepath.Join(dir, "sound")
		out, err := builds(binary, pkg)
		if err == nil {
			// With the tests' usual time limits: nothing is expected to hang.
			out, err = check(binary, pkg, strings.Join(slices.Sorted(maps.Keys(names)), "|"), kills, "30m", "20s", "60s")
		}
		if err != nil {
			fmt.Printf("%s, without a mutant: %v\n%s", pkg, err, out)
			return false
		}
	}
	return true
}

// builds builds the tests of a package.
func builds(binary, pkg string, flags ...string) ([]byte, error) {
	// From the package's directory, so that it is found in its module.
	return exec.Command("go", append(append([]string{"test", "-C", pkg}, flags...), "-c", "-o", binary, ".")...).CombinedOutput()
}

// check runs tests of a binary, and returns their output and whether they have failed.
func check(binary, pkg, tests string, kills int, timeout, hang, patience string) (out []byte, err error) {
	run := exec.Command(binary, "-test.v", "-test.run", "^("+tests+")$", "-test.timeout", timeout, "-test.failfast")
	run.Dir = pkg
	// A directory of their own, so that what failing tests leave behind is removed.
	store, err := os.MkdirTemp(shm(), "mutants-")
	must(err)
	defer os.RemoveAll(store)
	must(os.Chmod(store, 0o777|os.ModeSticky))
	run.Env = append(os.Environ(), names.DirVariable+"="+store)
	switch pkg {
	case unit, below: // which have no such flag
	case etcd: // whose tests wait for leases to end
		run.Args = append(run.Args, "-hang", "15s")
	default:
		run.Args = append(run.Args, "-hang", hang)
	}
	if pkg == storm || pkg == cmd {
		run.Args = append(run.Args, "-storm.kills", fmt.Sprint(kills), "-storm.patience", patience)
	}
	// Processes that a test leaves behind which did not end in time have its output open.
	run.WaitDelay = 5 * time.Second
	if out, err = run.CombinedOutput(); errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return out, err
}

// shm returns the directory in which semaphores are by default, "" if it does not exist.
func shm() string {
	if _, err := os.Stat(names.GlibcDir); err != nil {
		return ""
	}
	return names.GlibcDir
}

// A build is a binary of tests with a mutant in it.
type build struct {
	mutant
	binary string
	wrong  string // why there is none
}

// build builds the tests with the mutant.
func (m mutant) build(dir string) build {
	must(os.Mkdir(dir, 0o700))
	source, err := os.ReadFile(m.file)
	must(err)
	mutated := string(source)
	for _, e := range m.edits {
		if strings.Count(mutated, e.old) != 1 {
			return build{mutant: m, wrong: fmt.Sprintf("%q is not exactly once in %s", e.old, m.file)}
		}
		mutated = strings.Replace(mutated, e.old, e.new, 1)
	}
	replacement := filepath.Join(dir, "mutant.go")
	must(os.WriteFile(replacement, []byte(mutated), 0o600))
	path, err := filepath.Abs(m.file)
	must(err)
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: replacement}})
	must(err)
	overlayFile := filepath.Join(dir, "overlay.json")
	must(os.WriteFile(overlayFile, overlay, 0o600))
	binary := filepath.Join(dir, "test")
	if out, err := builds(binary, m.pkg, "-overlay", overlayFile); err != nil {
		return build{mutant: m, wrong: fmt.Sprintf("%v: %s", err, out)}
	}
	return build{mutant: m, binary: binary}
}

// find runs the test that must fail.
func (b build) find(kills int) (how string, found bool) {
	if b.wrong != "" {
		return b.wrong, false
	}
	defer os.Remove(b.binary)
	// A signal or a busy machine may spoil the interleaving that a test makes.
	const tries = 10
	var out []byte
	var err error
	for try := 0; try < tries && err == nil; try++ {
		out, err = check(b.binary, b.pkg, b.test, kills, "2m", "2s", "3s")
	}
	if err == nil && bytes.Contains(out, []byte("--- SKIP: ")) {
		return "the test was skipped", false
	} else if err == nil {
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
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
}
