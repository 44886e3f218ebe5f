// Package permits implements the table of a recoverable semaphore: permits in memory
// that processes share, each of them a word that names its owner. A permit is taken
// by one compare-and-swap, which also records the owner: there is no moment at which
// a permit is taken and its owner unknown. See docs/recovery.md.
//
// The package knows nothing of files, locks and sleep. Its Host does, and says which
// owners are alive.
package permits

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/procsem/semaphore/internal/futex"
)

const (
	// MaxPermits is the greatest limit.
	MaxPermits = 65535
	// MaxSlots is how many handles a semaphore may have at a time.
	MaxSlots = 4096
)

// The file: a page with the header, then the line of waiters, then the slots, then the
// permits. Slots and permits beyond the header's marks have never been used, and need not
// be backed by storage.
const (
	headerSize = 4096
	entrySize  = 8
	SlotSize   = 128
	wordSize   = 8
	lineAt     = headerSize
	SlotsAt    = lineAt + MaxSlots*entrySize
	wordsAt    = SlotsAt + MaxSlots*SlotSize

	// Size is the file's size in bytes.
	Size = wordsAt + (MaxPermits+1)*wordSize
	// SlotsEnd is where the slots end, and with them all liveness words.
	SlotsEnd = wordsAt

	// Bytes beyond the file's end exist only as locks (ByteLocks, RangeLocks):
	// one for the claim, and from SlotByte on one for each slot.
	ClaimByte = Size
	SlotByte  = Size + 1
	// SpareByte is locked by nobody, but for a moment by people who look (proc.LocksOf).
	SpareByte = SlotByte + MaxSlots

	// MaxName is the longest name in bytes.
	MaxName = 255

	// Version is the version of the file's format. In version 1 the file did not say its
	// name; in version 2 the order of waiters was the kernel's. See older.go.
	Version = 3
)

const (
	magic    = 0x016d6573636f7270 // "procsem\x01", in a little-endian file
	reversed = 0x70726f6373656d01
)

// A header is the beginning of the file. Fields that are written often have a cache
// line of their own.
type header struct {
	magic   uint64
	version uint32
	locks   uint32 // Locks: which locks show that an owner is alive
	id      uint64 // tells the file from others that ever had its name
	started start
	_       [2]uint64

	limit       atomic.Uint64 // see limit.go
	permitsMark atomic.Uint32 // permits below it have storage
	slotsMark   atomic.Uint32 // slots below it have storage
	_           [6]uint64

	waiters atomic.Uint64 // see waiters.go
	tickets atomic.Uint64 // the last ticket taken; see line.go

	gathering atomic.Uint64 // 0, or the owner that gathers permits; see gather.go
	_         [5]uint64

	// Bit g of the summary, for g > 0, is clear if none of the permits 64g to
	// 64g+63 is free; see hint.go.
	summary [(MaxPermits + 1) / groupSize / 64]atomic.Uint64

	// The semaphore's name, and zeros. A hard link gives a file another name, under which
	// other users would find what they had never agreed to share.
	name [MaxName + 1]byte
}

// A slot is one open handle.
type slot struct {
	live     atomic.Uint32 // the liveness word, a robust futex: thread id, futex.Waiters, futex.OwnerDied
	state    atomic.Uint32 // slotFree or slotUsed
	gen      atomic.Uint64 // the owner's generation; each owner has a higher one
	doing    atomic.Uint32 // Step: for people and tests, never for decisions
	clearing atomic.Uint32 // group+1 whose summary bit it is clearing
	pid      atomic.Uint32 // for people, as are the times
	reaped   atomic.Uint32 // the low half of the last generation that was reaped
	started  atomic.Int64  // when the process started
	opened   atomic.Int64  // when the handle was opened, Unix time in ns
	arrived  atomic.Int64  // when the waiter in the line began to wait, Unix time in ns
	calledAt atomic.Int64  // when it was called last, Unix time in ns
	since    atomic.Int64  // Times, for people; see since.go
	waited   atomic.Int64
	label    [MaxLabel / 8]atomic.Uint64 // and zeros
	byFile   atomic.Uint32               // 1: its owner is an open file; see handed.go
	lookout  atomic.Uint32               // which waiter looks often at the lock of a dying owner; see lookout.go
	want     atomic.Uint32               // how many permits the waiter in the line wants, if not one; see gather.go
	_        uint32
}

const (
	slotFree = 0
	slotUsed = 1
)

// exitWillBeReported reports whether this owner's exit will be reported in its
// liveness word, and has not been yet: futex.Waiters is set, futex.OwnerDied is not.
// The kernel reports, or on Windows the waiters that watch the process (see
// processes.go). False means nothing: an owner whose exit was reported may live on as
// another program, and one whose exit is not reported may live. Then the lock decides.
func exitWillBeReported(live uint32) bool {
	return live&(futex.Waiters|futex.OwnerDied) == futex.Waiters
}

// A permit's word is 0, or it names an owner: slot, generation, and one bit that says
// whether the permit was taken for a Permit (set) or for the handle (clear).
const (
	forPermitBit = 1
	genShift     = 1
	genBits      = 47
	genMask      = 1<<genBits - 1
	slotBits     = genShift + genBits
)

func ownerWord(slot int, gen uint64) uint64 { return uint64(slot)<<slotBits | gen<<genShift }

func slotOf(word uint64) int   { return int(word >> slotBits) }
func genOf(word uint64) uint64 { return word >> genShift & genMask }

// Locks says which locks show that an owner is alive: the kernel drops them when its
// process ends.
type Locks uint32

const (
	// ByteLocks are open-file-description locks on a byte for each slot.
	ByteLocks Locks = 1
	// FileLocks are flocks of a file for each slot.
	FileLocks Locks = 2
	// RangeLocks are locks of LockFileEx on a byte for each slot. Their owners are
	// on Windows, where waiters sleep on objects that Linux does not have.
	RangeLocks Locks = 3
)

// A Step is what a handle is doing, if that takes more than one instruction.
type Step uint32

const (
	Idle   Step = iota
	Taking      // never written into the slot: only testhook.Trace gets it
	Claiming
	Waiting
	Waking
	Shrinking
	Reaping
	Gathering
)

var stepNames = [...]string{"idle", "taking", "claiming a slot", "waiting", "waking", "shrinking", "reaping", "gathering"}

func (s Step) String() string {
	if int(s) >= len(stepNames) {
		return fmt.Sprintf("Step(%d)", uint32(s))
	}
	return stepNames[s]
}

// A Table is a semaphore's memory.
type Table struct {
	*header
	line  *[MaxSlots]atomic.Uint64 // see line.go
	slots *[MaxSlots]slot
	words *[MaxPermits + 1]atomic.Uint64
}

// At returns the table in Size bytes of shared memory, aligned to pages.
func At(memory unsafe.Pointer) *Table {
	return &Table{
		header: (*header)(memory),
		line:   (*[MaxSlots]atomic.Uint64)(unsafe.Add(memory, lineAt)),
		slots:  (*[MaxSlots]slot)(unsafe.Add(memory, SlotsAt)),
		words:  (*[MaxPermits + 1]atomic.Uint64)(unsafe.Add(memory, wordsAt)),
	}
}

// A Head is the beginning of a file, with which it is created and checked.
type Head [headerSize / 8]uint64

func (h *Head) header() *header { return (*header)(unsafe.Pointer(h)) }

// Bytes returns the head as the file has it.
func (h *Head) Bytes() []byte { return unsafe.Slice((*byte)(unsafe.Pointer(h)), headerSize) }

// NewHead returns the head of a new file, of a semaphore of that name. The rest of the file
// is zero.
func NewHead(name string, limit int, locks Locks, id uint64) *Head {
	h := new(Head)
	f := h.header()
	f.magic, f.version, f.locks, f.id = magic, Version, uint32(locks), id
	copy(f.name[:MaxName], name)
	f.limit.Store(uint64(limit))
	f.permitsMark.Store(uint32(limit))
	for g := 1; g <= groupOf(limit); g++ {
		f.setBit(g)
	}
	return h
}

// Check returns what is wrong with the head of a file of that size, "" if nothing
// is. Nothing is wrong with a file of an older version, which has its own size.
func (h *Head) Check(size int64) string {
	f := h.header()
	switch {
	case size < headerSize:
		return fmt.Sprintf("it has %d bytes; a recoverable semaphore has %d", size, Size)
	case f.magic != magic && f.magic != reversed:
		return fmt.Sprintf("it begins with %q; a recoverable semaphore begins with %q", h.Bytes()[:8], NewHead("", 1, 0, 0).Bytes()[:8])
	case f.magic == reversed:
		return "it was made by a program of the other byte order"
	case f.version == 0:
		return fmt.Sprintf("it is of version 0; versions 1 to %d are known", Version)
	case f.version > Version:
		return fmt.Sprintf("a newer version of this package has made it: it is of version %d; this program knows versions up to %d", f.version, Version)
	case size != h.Size():
		return fmt.Sprintf("it has %d bytes; a recoverable semaphore of version %d has %d", size, f.version, h.Size())
	case f.locks < uint32(ByteLocks) || f.locks > uint32(RangeLocks):
		return fmt.Sprintf("it is damaged: its locks are of kind %d; 1 to 3 are known", f.locks)
	case f.permitsMark.Load() == 0 || f.permitsMark.Load() > MaxPermits || f.slotsMark.Load() > MaxSlots || limitOf(f.limit.Load()) > int(f.permitsMark.Load()):
		return fmt.Sprintf("it is damaged: limit %d, %d permits (of at most %d), %d slots (of at most %d)",
			limitOf(f.limit.Load()), f.permitsMark.Load(), MaxPermits, f.slotsMark.Load(), MaxSlots)
	}
	return ""
}

// Locks returns which locks the file's handles use.
func (h *Head) Locks() Locks { return Locks(h.header().locks) }

// ID returns the number that tells the file from others that have, had or will have
// its name.
func (h *Head) ID() uint64 { return h.header().id }

// Name returns the name that the semaphore was made with.
func (h *Head) Name() string {
	name, _, _ := bytes.Cut(h.header().name[:], []byte{0})
	return string(name)
}

// Slots returns how many slots are in use, or were.
func (h *Head) Slots() int { return h.header().slotsInUse() }

// A Range is a part of the file.
type Range struct{ From, To int64 }

// Used returns the parts of the file that are in use.
func (h *Head) Used() []Range {
	return []Range{{0, SlotsAt}, slotRange(0, int(h.header().slotsMark.Load())), wordRange(0, int(h.header().permitsMark.Load()))}
}

// Needed returns the parts of the file that its first handle will use.
func (h *Head) Needed() []Range { return append(h.Used(), slotRange(0, 1)) }

func slotRange(from, to int) Range {
	return Range{SlotsAt + int64(from)*SlotSize, SlotsAt + int64(to)*SlotSize}
}
func wordRange(from, to int) Range {
	return Range{wordsAt + int64(from)*wordSize, wordsAt + int64(to)*wordSize}
}

// permitsInUse returns how many words there are. However the file is damaged, the
// number leads to no access outside of it.
func (h *header) permitsInUse() int { return min(int(h.permitsMark.Load()), MaxPermits) }

func (h *header) slotsInUse() int { return min(int(h.slotsMark.Load()), MaxSlots) }
