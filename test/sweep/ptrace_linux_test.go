//go:build amd64 && !race && !filelock_fcntl

// How a process is taken through an operation: ptrace, and hardware breakpoints, or instructions that
// trap where those do not work.

package sweep_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	. "github.com/procsem/semaphore/internal/testkit"
)

// errNoPtrace means that this process may not trace others.
var errNoPtrace = errors.New("the right to ptrace")

// catch lets the helper run to the beginning of the operation.
func (p *prey) catch() {
	p.seize(p.tid)
	sweepMust(unix.PtraceSetOptions(p.tid, traceOptions))
	_, err := p.in.Write([]byte{1})
	sweepMust(err)
	var regs unix.PtraceRegs
	for marks, sig := 0, 0; marks < 2; { // entry to the first mark, and return from it
		sweepMust(unix.PtraceSyscall(p.tid, sig))
		status := p.wait(p.tid)
		sig = 0
		switch stop := status.StopSignal(); {
		case stop == syscall.SIGTRAP|0x80:
			sweepMust(unix.PtraceGetRegs(p.tid, &regs))
			if inMark(&regs) {
				marks++
			}
		case stop != syscall.SIGTRAP:
			sig = int(stop)
		}
	}
	p.mark = regs.Rip - sizeSYSCALL
	// If the other threads ran, the runtime would do other things in between, at
	// different instructions each time.
	if !p.op.loose {
		p.freeze()
	}
}

// freeze stops all threads but the stepped one, which is stopped.
func (p *prey) freeze() {
	p.frozen = true
	stopped := []int{p.tid}
	for more := true; more; {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid))
		sweepMust(err)
		more = false
		for _, thread := range threads {
			tid, _ := strconv.Atoi(thread.Name())
			if slices.Contains(stopped, tid) {
				continue
			}
			if slices.Contains(p.traced, tid) {
				p.interrupt(tid)
			} else {
				p.seize(tid)
			}
			stopped = append(stopped, tid)
			more = true
		}
	}
}

const traceOptions = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL

// inMark reports whether the system call in which a thread is stopped is a mark.
func inMark(regs *unix.PtraceRegs) bool {
	return regs.Orig_rax == unix.SYS_GETPRIORITY && regs.Rsi == markNumber
}

// thaw lets the other threads go on.
func (p *prey) thaw() {
	if !p.frozen {
		return
	}
	p.frozen = false
	p.unplant()
	for _, tid := range p.traced {
		if tid != p.tid {
			sweepMust(unix.PtraceCont(tid, 0))
		}
	}
}

// seize stops a thread.
func (p *prey) seize(tid int) {
	err := unix.PtraceSeize(tid)
	if err == unix.EPERM || err == unix.ENOSYS {
		panic(fmt.Errorf("%w: %v", errNoPtrace, err))
	}
	sweepMust(err)
	p.traced = append(p.traced, tid)
	p.interrupt(tid)
}

// interrupt stops a thread that is traced.
func (p *prey) interrupt(tid int) unix.WaitStatus {
	sweepMust(unix.PtraceInterrupt(tid))
	return p.wait(tid)
}

// wait waits for a thread to stop.
func (p *prey) wait(tid int) unix.WaitStatus {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(tid, &status, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		sweepMust(err)
		p.stopped(status)
		return status
	}
}

// stopped complains if the thread has ended instead of stopped.
func (p *prey) stopped(status unix.WaitStatus) {
	if status.Stopped() {
		return
	}
	complain("the helper has ended: %#x", status)
}

// waitOrThaw is wait, for the stepped thread. If that waits for one of the other threads,
// which are stopped, they go on. ok is false if the test's waiter got the permit that the
// stepped thread sleeps for, so that it sleeps on.
func (p *prey) waitOrThaw() (status unix.WaitStatus, ok bool) {
	for start, n := time.Now(), 0; ; n++ {
		if n < 50 {
			syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // to the thread, if that is on this processor
		} else {
			time.Sleep(10 * time.Microsecond)
		}
		if tid, err := unix.Wait4(p.tid, &status, unix.WALL|unix.WNOHANG, nil); err == nil && tid == p.tid {
			p.stopped(status)
			return status, true
		}
		switch since := time.Since(start); {
		case since > Hang:
			complain("the operation does not end: limit %s", p.state())
		case since > time.Second && p.cameBack && len(p.waiting) > 0:
			return status, false
		case since > 200*time.Millisecond && p.frozen && p.hops:
			// Without what stops it it would run on.
			status = p.interrupt(p.tid)
			p.thaw()
			return status, true
		case since > 200*time.Millisecond:
			p.thaw()
		}
	}
}

// waitShort is wait, for the stepped thread, without Go's scheduler, as the wait is shorter
// than what the scheduler would add to it.
func (p *prey) waitShort() unix.WaitStatus {
	var status unix.WaitStatus
	for {
		_, _, errno := syscall.RawSyscall6(unix.SYS_WAIT4, uintptr(p.tid), uintptr(unsafe.Pointer(&status)), unix.WALL, 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			sweepMust(errno)
		}
		p.stopped(status)
		return status
	}
}

// ptrace is the system call for the stepped thread, also without the scheduler.
func (p *prey) ptrace(request int, regs *unix.PtraceRegs) error {
	if _, _, errno := syscall.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(p.tid), 0, uintptr(unsafe.Pointer(regs)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// together puts the stepped thread and this one on one processor: on two the steps would
// be slow. (By the pid, too: two tests at a time need not be on the same one.)
func (p *prey) together() (apart func()) {
	var all, one unix.CPUSet
	sweepMust(unix.SchedGetaffinity(0, &all))
	cpu := -1
	for range 1 + (os.Getpid()+p.number)%all.Count() {
		for cpu++; !all.IsSet(cpu); cpu++ {
		}
	}
	one.Set(cpu)
	sweepMust(unix.SchedSetaffinity(0, &one))
	sweepMust(unix.SchedSetaffinity(p.tid, &one))
	return func() { sweepMust(unix.SchedSetaffinity(0, &all)) }
}

// step lets the helper go on, one instruction at a time, until stop returns true. ended
// says that the helper has come to the end of the operation instead.
func (p *prey) step(stop func(b boundary) bool) (ended bool) {
	again, done := p.guard()
	defer done()
	defer p.together()()
	var b boundary
	var regs unix.PtraceRegs
	for n, last := 1, uint64(0); ; n, last = n+1, regs.Rip {
		if n%guarded == 0 {
			again()
		}
		if n > mostSteps {
			complain("the operation does not end in %d steps: limit %s", mostSteps, p.state())
		}
		sweepMust(p.ptrace(unix.PTRACE_GETREGS, &regs))
		if p.atEnd(&regs) {
			return true
		}
		if at := clockGettime(); at != 0 && regs.Rip == p.vdso()+at {
			p.tellTime(regs)
			continue
		}
		// (An instruction that repeats, as REP STOS, traps after each repetition.)
		if regs.Rip != last {
			b = p.boundary(&regs)
			if stop(b) {
				return false
			}
		}
		sleeps := b.call && p.mayRelease(&regs)
		if b.call && waitsForThread(&regs) {
			p.sleptAt = regs.Rip
			p.thaw()
		}
		for {
			sweepMust(p.ptrace(unix.PTRACE_SINGLESTEP, nil))
			if sleeps && p.asleep() {
				p.comeBack()
			}
			sleeps = false
			var status unix.WaitStatus
			if b.call {
				var ok bool
				if status, ok = p.waitOrThaw(); !ok {
					return false
				}
			} else {
				status = p.waitShort()
			}
			if status.StopSignal() == syscall.SIGTRAP {
				break // other signals do not come from the step
			}
		}
	}
}

// guard ends the test if again is not called for too long. (If the stepped thread is the first of its
// process, and that ends, no wait for it returns before the other threads are gone.)
func (p *prey) guard() (again, done func()) {
	watchdog := time.AfterFunc(3*Hang, func() {
		panic(fmt.Sprintf("%s: fewer than %d steps in %v: limit %s", p.op.name, guarded, 3*Hang, p.state()))
	})
	return func() { watchdog.Reset(3 * Hang) }, func() { watchdog.Stop() }
}

const (
	guarded   = 4096
	mostSteps = 1 << 20 // the longest operation takes 60,000, or several times that if the runtime has something to do
)

// atEnd reports whether the stepped thread is at the mark after the operation.
func (p *prey) atEnd(regs *unix.PtraceRegs) bool {
	if regs.Rip != p.mark || regs.Rax != unix.SYS_GETPRIORITY || regs.Rsi != markNumber {
		return false
	}
	if regs.Rdx != 0 {
		complain("the operation has failed")
	}
	return true
}

// waitsForThread reports whether the next system call is one of the runtime, which waits for
// another thread.
func waitsForThread(regs *unix.PtraceRegs) bool {
	const private = 128
	return regs.Rax == unix.SYS_FUTEX && regs.Rsi == private // FUTEX_WAIT
}

// mayRelease reports whether the next system call is the one in which the helper sleeps
// until a permit is given back for it.
func (p *prey) mayRelease(regs *unix.PtraceRegs) bool {
	switch {
	case p.op.wait != fromSleep || p.cameBack:
		return false
	case p.op.loose:
		return waitsForThread(regs)
	}
	return regs.Rax == unix.SYS_FUTEX_WAITV
}

// fixed turns an address in the vDSO into one that is the same in all processes, from
// fixedVDSO on. (The runtime gets its random numbers there. Its clock is read by tellTime.)
func (p *prey) fixed(pc uint64) uint64 {
	if base := p.vdso(); pc >= base && pc < base+sizeVDSO {
		return pc - base + fixedVDSO
	}
	return pc
}

// here reports whether a fixed address is in the program or its vDSO, not in a library, which is elsewhere in each process.
func here(pc uint64) bool { return pc >= fixedVDSO || runtime.FuncForPC(uintptr(pc)) != nil }

const (
	fixedVDSO = 1 << 60
	sizeVDSO  = 4 << 12
)

func (p *prey) vdso() uint64 {
	if p.vdsoAt == 0 {
		auxv, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", p.pid))
		sweepMust(err)
		for ; len(auxv) >= 16; auxv = auxv[16:] {
			if binary.LittleEndian.Uint64(auxv) == atSysinfoEHDR {
				p.vdsoAt = binary.LittleEndian.Uint64(auxv[8:])
			}
		}
	}
	return p.vdsoAt
}

const atSysinfoEHDR = 33

// clockGettime is where clock_gettime is in the vDSO; 0 if it is a system call.
var clockGettime = sync.OnceValue(func() uint64 {
	p := prey{pid: os.Getpid()}
	if p.vdso() == 0 {
		return 0
	}
	memory, err := os.Open("/proc/self/mem")
	sweepMust(err)
	defer memory.Close()
	vdso, err := elf.NewFile(io.NewSectionReader(memory, int64(p.vdso()), sizeVDSO))
	sweepMust(err)
	symbols, err := vdso.DynamicSymbols()
	sweepMust(err)
	i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == "__vdso_clock_gettime" })
	if i < 0 {
		return 0
	}
	return symbols[i].Value
})

// tellTime makes the call of clock_gettime that the stepped thread is about to make. Stepped through, that
// would start again whenever the kernel has told the time in between, every few milliseconds: where a step
// takes 80 µs it did so a thousand times. (A process that dies in it leaves what it leaves before it.)
func (p *prey) tellTime(regs unix.PtraceRegs) {
	var now unix.Timespec
	sweepMust(unix.ClockGettime(int32(regs.Rdi), &now))
	_, err := unix.PtracePokeData(p.tid, uintptr(regs.Rsi), unsafe.Slice((*byte)(unsafe.Pointer(&now)), unsafe.Sizeof(now)))
	sweepMust(err)
	var back [8]byte
	_, err = unix.PtracePeekData(p.tid, uintptr(regs.Rsp), back[:])
	sweepMust(err)
	regs.Rip, regs.Rsp, regs.Rax = binary.LittleEndian.Uint64(back[:]), regs.Rsp+8, 0
	sweepMust(p.ptrace(unix.PTRACE_SETREGS, &regs))
}

// debugRegister is where PTRACE_POKEUSER finds the processor's debug registers:
// offsetof(struct user, u_debugreg).
const debugRegister = 848

// stopAt makes the stepped thread stop before these instructions, except those that are 0,
// and except those after the first four, as the processor has no more debug registers.
func (p *prey) stopAt(pcs ...uint64) error {
	slots, enabled := 0, uint64(0)
	for i, pc := range pcs {
		if pc != 0 && !slices.Contains(pcs[:i], pc) && slots < 4 {
			if err := p.poke(slots, pc); err != nil {
				return err
			}
			enabled |= 1 << (2 * slots)
			slots++
		}
	}
	return p.poke(7, enabled)
}

func (p *prey) poke(register int, value uint64) error {
	_, _, errno := syscall.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_POKEUSR, uintptr(p.tid), debugRegister+8*uintptr(register), uintptr(value), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// breaks reports whether the processor's debug registers stop the stepped thread: those of a virtual
// machine may be written to and do nothing. The helper has to come to the end of its operation without
// its other threads, which go on stopped.
func (p *prey) breaks() bool {
	if p.stopAt(p.mark) != nil {
		return false
	}
	_, done := p.guard()
	defer done()
	var regs unix.PtraceRegs
	for {
		// Either it stops before the system call at the mark, or in it.
		sweepMust(unix.PtraceSyscall(p.tid, 0))
		stop := p.wait(p.tid).StopSignal()
		sweepMust(unix.PtraceGetRegs(p.tid, &regs))
		switch {
		case stop == syscall.SIGTRAP && regs.Rip == p.mark:
			return true
		case stop == syscall.SIGTRAP|0x80 && inMark(&regs):
			return false
		}
	}
}

// leap lets the helper run to the target, at full speed. met is false if the helper has come
// to the end of the operation instead.
func (p *prey) leap(to target) (met bool) {
	sweepMust(p.stopAt(p.stops(to)...))
	arrived := to.arrival()
	var regs unix.PtraceRegs
	for sig := 0; ; {
		sweepMust(p.ptrace(unix.PTRACE_GETREGS, &regs))
		if p.atEnd(&regs) {
			return false
		}
		if sig == 0 {
			if met, missed := arrived(p.fixed(regs.Rip)); met || missed {
				return met
			}
		}
		if regs.Rip == to.sleepAt && waitsForThread(&regs) {
			p.thaw()
		}
		sweepMust(unix.PtraceCont(p.tid, sig))
		if (regs.Rip == p.mark || regs.Rip == to.sleepAt) && p.mayRelease(&regs) && p.asleep() {
			p.comeBack()
		}
		status, ok := p.waitOrThaw()
		if !ok {
			return false
		}
		sig = int(status.StopSignal())
		if sig == int(syscall.SIGTRAP) {
			sig = 0
		}
	}
}

// stops returns the instructions before which the helper has to stop on its way to the target.
func (p *prey) stops(to target) []uint64 {
	pc := to.pc
	if pc >= fixedVDSO && pc < fixedVDSO+sizeVDSO {
		pc = pc - fixedVDSO + p.vdso()
	}
	return []uint64{pc, p.mark, to.since.pc, to.sleepAt, to.before.pc}
}

// hop is leap where hardware breakpoints do not work: it has instructions that trap in the place of those before which the
// helper has to stop. Any thread that comes to one would stop, so all others are stopped meanwhile, also those that the helper
// starts, but while it waits for one of them.
func (p *prey) hop(to target) (met bool) {
	to.sleepAt = max(to.sleepAt, threadWaits.Load())
	arrived := to.arrival()
	met, done := p.hopFrozen(to, arrived)
	if done {
		return met
	}
	// It is not known for what it waits: it is stepped, while the others run.
	sweepMust(unix.PtraceSetOptions(p.tid, traceOptions))
	p.step(func(b boundary) (stop bool) {
		var missed bool
		met, missed = arrived(b.pc)
		return met || missed
	})
	return met
}

// hopFrozen is hop as long as the other threads can be stopped. done is false if they had to go on.
func (p *prey) hopFrozen(to target, arrived func(pc uint64) (met, missed bool)) (met, done bool) {
	defer p.together()()
	sweepMust(unix.PtraceSetOptions(p.tid, traceOptions|unix.PTRACE_O_TRACECLONE))
	p.plant(p.stops(to))
	defer p.unplant()
	var regs unix.PtraceRegs
	for {
		sweepMust(p.ptrace(unix.PTRACE_GETREGS, &regs))
		if p.atEnd(&regs) {
			return false, true
		}
		if met, missed := arrived(p.fixed(regs.Rip)); met || missed {
			return met, true
		}
		waits := regs.Rip == to.sleepAt && waitsForThread(&regs)
		if waits {
			p.thaw()
		}
		if !p.pass(&regs) {
			return false, true
		}
		if !p.frozen && !waits {
			// It was interrupted.
			if regs.Orig_rax != unix.SYS_FUTEX {
				return false, false
			}
			to.sleepAt = regs.Rip - sizeSYSCALL
			threadWaits.Store(to.sleepAt)
			if !p.pass(&regs) { // the call begins again, and ends
				return false, true
			}
		}
		if !p.frozen {
			p.freeze()
			p.plant(p.stops(to))
		}
	}
}

// threadWaits is the instruction of the runtime at which a thread waits for another one, once that is known.
var threadWaits atomic.Uint64

const sizeSYSCALL = 2

// pass lets the stepped thread go on from an instruction to the next one that traps, or by one instruction if it is at one
// of those, or the other threads have gone on. ok is as waitOrThaw's.
func (p *prey) pass(regs *unix.PtraceRegs) (ok bool) {
	at := regs.Rip
	was, traps := p.trapped[at]
	traps = traps && p.planted
	if traps {
		p.write(at, was)
	}
	p.hops = !traps && p.frozen
	defer func() { p.hops = false }()
	for {
		request := unix.PTRACE_SINGLESTEP
		if p.hops && p.frozen {
			request = unix.PTRACE_CONT
		}
		sweepMust(p.ptrace(request, nil))
		if at == p.mark && p.mayRelease(regs) && p.asleep() {
			p.comeBack()
		}
		status, ok := p.waitOrThaw()
		switch {
		case !ok:
			return false
		case status.StopSignal() != syscall.SIGTRAP:
			continue // as in step
		case status.TrapCause() == unix.PTRACE_EVENT_CLONE:
			p.adopt()
			continue
		}
		sweepMust(p.ptrace(unix.PTRACE_GETREGS, regs))
		if _, traps := p.trapped[regs.Rip-1]; traps && p.hops && status.TrapCause() == 0 {
			regs.Rip--
			sweepMust(p.ptrace(unix.PTRACE_SETREGS, regs))
		}
		if !p.hops && regs.Rip == at {
			continue // it repeats
		}
		break
	}
	if traps && p.planted {
		p.write(at, trap)
	}
	return true
}

// adopt leaves a thread stopped that the stepped one has just started.
func (p *prey) adopt() {
	started, err := unix.PtraceGetEventMsg(p.tid)
	sweepMust(err)
	tid := int(started)
	p.traced = append(p.traced, tid)
	p.wait(tid)
	sweepMust(unix.PtraceSetOptions(tid, unix.PTRACE_O_EXITKILL)) // those that it starts are not traced
	if !p.frozen {
		sweepMust(unix.PtraceCont(tid, 0))
	}
}

const trap = 0xcc // INT3

// plant puts instructions that trap in the place of these, except those that are not here. (0 is none.)
func (p *prey) plant(pcs []uint64) {
	p.trapped = make(map[uint64]byte)
	for _, pc := range pcs {
		if _, is := p.trapped[pc]; is || !here(p.fixed(pc)) {
			continue
		}
		var was [1]byte
		_, err := p.memory().ReadAt(was[:], int64(pc))
		sweepMust(err)
		p.trapped[pc] = was[0]
		p.write(pc, trap)
	}
	p.planted = true
}

// unplant undoes plant.
func (p *prey) unplant() {
	if !p.planted {
		return
	}
	p.planted = false
	for pc, was := range p.trapped {
		p.write(pc, was)
	}
}

// write changes a byte of the helper's program, in its memory alone.
func (p *prey) write(pc uint64, to byte) {
	_, err := p.memory().WriteAt([]byte{to}, int64(pc))
	sweepMust(err)
}

func (p *prey) memory() *os.File {
	if p.mem == nil {
		mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.pid), os.O_RDWR, 0)
		sweepMust(err)
		p.mem = mem
	}
	return p.mem
}

// asleep waits until the helper sleeps, and reports whether it does. The server of a loose operation is another thread, for
// which the one that is stepped waits meanwhile.
func (p *prey) asleep() bool {
	inCall := func(number int) bool {
		call, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", p.pid, p.tid))
		return err == nil && bytes.HasPrefix(call, []byte(fmt.Sprint(number, " ")))
	}
	for start := time.Now(); time.Since(start) < Hang; time.Sleep(20 * time.Microsecond) {
		late := time.Since(start) > 50*time.Millisecond
		switch {
		case !p.op.loose && (late || inCall(unix.SYS_FUTEX_WAITV)), p.op.loose && p.waits(p.pid):
			return true
		case late && !inCall(unix.SYS_FUTEX):
			return false
		}
	}
	return false
}

// comeBack gives back the permit that the helper sleeps for, when the test's waiter sleeps
// behind it.
func (p *prey) comeBack() {
	p.cameBack = true
	p.beginToWait()
	time.Sleep(100 * time.Microsecond) // the table says that it sleeps just before it does
	if p.doomed != nil {
		p.killDoomed()
	} else {
		p.give(0)
	}
}
