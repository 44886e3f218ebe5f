//go:build amd64 && !race && !filelock_fcntl

// How a crash point is named, what a process that dies there leaves, and what mends it.

package sweep_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/permits"
	. "github.com/procsem/semaphore/internal/testkit"
)

// A boundary is a point between two instructions.
type boundary struct {
	pc    uint64 // of the next instruction
	call  bool   // it is a system call
	write bool   // it writes to the semaphore's memory, or to the robust list
	what  string // what is called, or written
	where string // the module's function that calls or writes
}

// event reports whether the next instruction is a system call or a write of the module's.
func (b boundary) event() bool { return b.what != "" && b.where != goRuntime }

func (p *prey) boundary(regs *unix.PtraceRegs) boundary {
	b := boundary{pc: p.fixed(regs.Rip)}
	in := p.instruction(regs.Rip)
	switch {
	case in.call:
		b.call = true
		b.what, b.where = callName(regs), p.caller(regs)
	case in.atomic:
		b.where = symbol(regs.Rip)
		b.what = p.written(in.address(regs), regs.Rip)
		b.write = b.what != ""
	}
	return b
}

// An instruction is what the sweep needs to know about one.
type instruction struct {
	call   bool // SYSCALL
	atomic bool // it changes memory, and is atomic: shared memory is changed in no other way

	base, index int // registers, -1 for none
	scale       uint64
	offset      int64
}

var instructions sync.Map // instruction by address

func (p *prey) instruction(pc uint64) (in instruction) {
	own := runtime.FuncForPC(uintptr(pc)) != nil // and not in the vDSO, whose address varies
	if own {
		if known, ok := instructions.Load(pc); ok {
			return known.(instruction)
		}
	}
	var code [16]byte
	unix.PtracePeekText(p.tid, uintptr(pc), code[:])
	in = decode(code)
	if own {
		instructions.Store(pc, in)
	}
	return in
}

// decode knows SYSCALL, XCHG with memory, and instructions with the prefix LOCK; the latter
// two have their operand in ModR/M and SIB (Intel's manual, volume 2, chapter 2).
func decode(code [16]byte) (in instruction) {
	at, rex, lock := 0, byte(0), false
	for ; ; at++ {
		c := code[at]
		lock = lock || c == 0xf0
		if c&0xf0 == 0x40 {
			rex = c
		} else if c != 0xf0 && c != 0xf2 && c != 0xf3 && c != 0x66 {
			break
		}
	}
	if code[at] == 0x0f && code[at+1] == 0x05 {
		return instruction{call: true}
	}
	if !lock && code[at]&^1 != 0x86 {
		return instruction{}
	}
	if code[at] == 0x0f {
		at++
	}
	mode, rm := code[at+1]>>6, code[at+1]&7
	at += 2
	if mode == 3 || mode == 0 && rm == 5 { // a register; a variable of the program
		return instruction{}
	}
	in = instruction{atomic: true, base: int(rm | rex&1<<3), index: -1}
	if rm == 4 {
		sib := code[at]
		at++
		in.base, in.index, in.scale = int(sib&7|rex&1<<3), int(sib>>3&7|rex&2<<2), 1<<(sib>>6)
		if in.index == 4 {
			in.index = -1
		}
		if sib&7 == 5 && mode == 0 {
			in.base, mode = -1, 2
		}
	}
	switch mode {
	case 1:
		in.offset = int64(int8(code[at]))
	case 2:
		in.offset = int64(int32(binary.LittleEndian.Uint32(code[at:])))
	}
	return in
}

// address returns the address of the memory that the instruction changes.
func (in instruction) address(r *unix.PtraceRegs) uint64 {
	registers := [...]uint64{r.Rax, r.Rcx, r.Rdx, r.Rbx, r.Rsp, r.Rbp, r.Rsi, r.Rdi, r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15}
	at := uint64(in.offset)
	if in.base >= 0 {
		at += registers[in.base]
	}
	if in.index >= 0 {
		at += registers[in.index] * in.scale
	}
	return at
}

// written names what an instruction writes at an address: a field of the file, or a link of
// the robust list, by which the kernel finds the liveness words; "" for memory that ends
// with the process.
func (p *prey) written(at, pc uint64) string {
	for _, base := range p.mappings() {
		switch {
		case at >= base && at < base+permits.Size:
			return field(at - base)
		case at >= base-futex.Distance && at < base:
			return "the kernel's list"
		}
	}
	if f := functions(pc); f != nil && strings.HasPrefix(f[0], module+"/internal/futex.(*RobustEntry)") {
		return "the kernel's list" // its head
	}
	return ""
}

// mappings returns the addresses at which the helper has mapped the semaphore's file. (The
// mappings of handles that it has closed may still be there.)
func (p *prey) mappings() []uint64 {
	if p.mapped == nil && p.table() != nil {
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.pid))
		sweepMust(err)
		for line := range strings.Lines(string(maps)) { // from-to, rights, offset, device, inode
			if f := strings.Fields(line); f[1] == "rw-s" && f[4] == strconv.FormatUint(p.inode, 10) {
				var from uint64
				_, err := fmt.Sscanf(f[0], "%x-", &from)
				sweepMust(err)
				p.mapped = append(p.mapped, from)
			}
		}
	}
	return p.mapped
}

// field names the part of the file at an offset, as docs/recovery.md does.
func field(at uint64) string {
	header := map[uint64]string{24: "last start", 32: "last start", 40: "last start", 64: "limit", 72: "permits in use", 76: "slots in use", 128: "waiters", 136: "tickets", 144: "gathering"}
	slot := map[uint64]string{0: "liveness word", 4: "state", 8: "generation", 16: "what it does", 20: "group", 24: "pid",
		28: "generation found dead", 32: "start of the process", 40: "time of opening", 48: "begin of the wait", 56: "time of the call",
		64: "time of the taking", 72: "length of the wait", 80: "label", 88: "label", 96: "label", 104: "label", 112: "open file", 116: "lookout", 120: "want"}
	name, known := "", false
	switch {
	case at >= permits.SlotsEnd:
		return "permit"
	case at >= permits.SlotsAt:
		name, known = slot[(at-permits.SlotsAt)%permits.SlotSize]
		name = "slot: " + name
	case at >= 4096:
		return "line"
	case at >= 192:
		return "summary"
	default:
		name, known = header[at]
	}
	if !known {
		complain("what is written at %d of the file?", at)
	}
	return name
}

// functions names the function of an instruction, and the function that it is inlined in.
func functions(pc uint64) (names []string) {
	if f := runtime.FuncForPC(uintptr(pc)); f != nil {
		names = append(names, f.Name())
		if outer := runtime.FuncForPC(f.Entry()); outer != nil {
			names = append(names, outer.Name())
		}
	}
	return names
}

const module = "github.com/procsem/semaphore"

// ofTests reports whether a function belongs to the tests, by its name without the module's.
func ofTests(path string) bool {
	return strings.HasPrefix(path, "_test") || strings.HasPrefix(path, "/test/") || strings.HasPrefix(path, "/internal/testkit")
}

// ofModule reports whether an instruction belongs to the module, and not to its tests, and
// its function's name contains part.
func ofModule(pc uint64, part string) bool {
	return slices.ContainsFunc(functions(pc), func(name string) bool {
		path, own := strings.CutPrefix(name, module)
		return own && !ofTests(path) && strings.Contains(path, part)
	})
}

// symbol names the first of the module's functions that these instructions are in, except
// the wrappers of system calls; "" if there is none.
func symbol(pcs ...uint64) string {
	for _, pc := range pcs {
		for _, name := range functions(pc) {
			path, own := strings.CutPrefix(name, module)
			if own && !ofTests(path) && !strings.HasPrefix(path, "/internal/filelock") {
				_, name, _ = strings.Cut(path[strings.LastIndexByte(path, '/')+1:], ".")
				name, _, _ = strings.Cut(name, ".func")
				return strings.NewReplacer("(*", "", ")", "").Replace(name)
			}
		}
	}
	return ""
}

const goRuntime = "Go's runtime"

// caller names the function of the module in which a system call is made.
func (p *prey) caller(regs *unix.PtraceRegs) string {
	if f := runtime.FuncForPC(uintptr(regs.Rip)); f != nil && strings.HasPrefix(f.Name(), "runtime.") {
		return goRuntime
	}
	var pcs []uint64
	var frame [16]byte // the caller's base pointer, and where it returns to
	for base := regs.Rbp; base != 0 && len(pcs) < 32; base = binary.LittleEndian.Uint64(frame[:]) {
		if n, err := unix.PtracePeekData(p.tid, uintptr(base), frame[:]); n < len(frame) || err != nil {
			break
		}
		pcs = append(pcs, binary.LittleEndian.Uint64(frame[8:])-1)
	}
	if name := symbol(pcs...); name != "" {
		return name
	}
	return goRuntime
}

func callName(regs *unix.PtraceRegs) string {
	names := map[uint64]string{
		unix.SYS_CLOCK_GETTIME: "clock_gettime", unix.SYS_CLOSE: "close", unix.SYS_EPOLL_CTL: "epoll_ctl", unix.SYS_EPOLL_PWAIT: "epoll_pwait",
		unix.SYS_FALLOCATE: "fallocate", unix.SYS_FCHMOD: "fchmod", unix.SYS_FCNTL: "fcntl", unix.SYS_FLOCK: "flock",
		unix.SYS_FSTAT: "fstat", unix.SYS_FSTATFS: "fstatfs", unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_FUTEX: "futex", unix.SYS_FUTEX_WAITV: "futex_waitv",
		unix.SYS_GETPID: "getpid", unix.SYS_GETRANDOM: "getrandom", unix.SYS_GETTID: "gettid", unix.SYS_GETUID: "getuid", unix.SYS_GETEUID: "geteuid",
		unix.SYS_LINKAT: "linkat", unix.SYS_MADVISE: "madvise", unix.SYS_MMAP: "mmap", unix.SYS_MUNMAP: "munmap", unix.SYS_NANOSLEEP: "nanosleep",
		unix.SYS_NEWFSTATAT: "fstatat", unix.SYS_OPENAT: "openat", unix.SYS_PREAD64: "pread", unix.SYS_PWRITE64: "pwrite", unix.SYS_READ: "read",
		unix.SYS_SCHED_YIELD: "sched_yield", unix.SYS_SET_ROBUST_LIST: "set_robust_list", unix.SYS_STATFS: "statfs", unix.SYS_WRITE: "write",
	}
	if name := names[regs.Rax]; name != "" {
		return name
	}
	return fmt.Sprint("system call ", regs.Rax)
}

// table returns the semaphore's table, from its file; nil if there is no file yet.
func (p *prey) table() *permits.Table {
	if p.file == nil {
		f, err := os.Open(StoreFile(Recoverable, p.name))
		if err != nil {
			return nil
		}
		defer f.Close()
		var st unix.Stat_t
		sweepMust(unix.Fstat(int(f.Fd()), &st))
		p.inode = st.Ino
		p.file, err = unix.Mmap(int(f.Fd()), 0, permits.Size, unix.PROT_READ, unix.MAP_SHARED)
		sweepMust(err)
	}
	return permits.At(unsafe.Pointer(&p.file[0]))
}

// remains returns what the helper has in the file, which outlives it.
func (p *prey) remains() (parts []string) {
	t := p.table()
	if t == nil {
		return nil
	}
	for _, h := range t.Holders() {
		if h.PID == p.pid {
			parts = append(parts, "slot")
			if h.Permits > 0 {
				parts = append(parts, "permit")
			}
			if h.Waits {
				parts = append(parts, "count as a waiter")
			}
		}
	}
	return parts
}

// notWoken reports whether the test's waiter sleeps beside a free permit, and was not
// woken for it.
func (p *prey) notWoken() bool {
	t := p.table()
	for start := time.Now(); time.Since(start) < 10*time.Millisecond; time.Sleep(20 * time.Microsecond) {
		held, limit := 0, 0
		if t != nil {
			limit, _ = t.Limit()
			for _, h := range t.Holders() {
				held += h.Permits
			}
		}
		if held >= limit || !p.waits(os.Getpid()) {
			return false
		}
	}
	return true
}

// leaves notes what the helper, which is about to die, leaves behind.
func (p *prey) leaves() {
	p.left = p.remains()
	if p.waiting != nil && p.notWoken() {
		p.left = append(p.left, "wake-up")
	}
}

// mendedBy notes what is gone by now, and that it was mended by the waiter, by Open etc.
func (p *prey) mendedBy(mender string) {
	now := p.remains()
	p.left = slices.DeleteFunc(p.left, func(part string) bool {
		gone := !slices.Contains(now, part)
		if gone {
			p.mended = append(p.mended, part+" ("+mender+")")
		}
		return gone
	})
}

// A crashes is what happened to the helpers that were killed before one of the events of an
// operation.
type crashes struct {
	event  string
	where  []string // functions
	times  int      // how often the event comes in the operation
	points int
	mended map[string]int // points, by what was left and what mended it
}

// tabulate returns what happened to the helpers that were killed before each system call
// and each write, but after the previous one; and to those killed after the last one.
func tabulate(trace []boundary, mended map[int][]string) (rows []*crashes) {
	var since []string
	for k, b := range trace {
		since = append(since, mended[k]...)
		event := b.what
		if !b.event() {
			if k < len(trace)-1 || len(since) == 0 {
				continue
			}
			event = "the end"
		}
		i := slices.IndexFunc(rows, func(c *crashes) bool { return c.event == event })
		if i < 0 {
			i = len(rows)
			rows = append(rows, &crashes{event: event, mended: make(map[string]int)})
		}
		if !slices.Contains(rows[i].where, b.where) {
			rows[i].where = append(rows[i].where, b.where)
		}
		rows[i].times++
		rows[i].points += len(since)
		for _, how := range since {
			rows[i].mended[how]++
		}
		since = nil
	}
	return rows
}

// outcomes lists what was left and what mended it, the most frequent first.
func (c *crashes) outcomes() string {
	var parts []string
	hows := slices.SortedFunc(maps.Keys(c.mended), func(a, b string) int {
		if c.mended[a] != c.mended[b] {
			return c.mended[b] - c.mended[a]
		}
		return strings.Compare(a, b)
	})
	for _, how := range hows {
		text := how
		if text == "" {
			text = "nothing"
		}
		if len(hows) > 1 {
			text = fmt.Sprintf("%d: %s", c.mended[how], text)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// location names an instruction, for people.
func location(pc uint64) string {
	f := runtime.FuncForPC(uintptr(pc))
	if f == nil {
		return fmt.Sprintf("%#x", pc)
	}
	file, line := f.FileLine(uintptr(pc))
	return fmt.Sprintf("%s %s:%d", strings.Join(slices.Compact(functions(pc)), " in "), filepath.Base(file), line)
}
