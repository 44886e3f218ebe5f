//go:build linux

package glibc

import (
	"encoding/binary"
	"runtime"
	"time"
	"unsafe"
)

// Probed are libc's operations on a semaphore that we watch.
type Probed struct {
	TryWait, Post func() bool
	Wait          func(time.Duration) bool
}

// Probe reports whether libc's semaphore, initialized as a shared one with
// the value 2, works as ours: value, waiters, and wake-ups.
func Probe(memory unsafe.Pointer, libc Probed) bool {
	words := (*Words)(memory)
	file := unsafe.Slice((*byte)(memory), Size)
	if binary.NativeEndian.Uint32(file[privateAt:]) != shared || words.Value() != 2 || words.Counted() != 0 {
		return false
	}
	if !libc.TryWait() || words.Value() != 1 || !words.Take() || libc.TryWait() {
		return false
	}
	if words.Post(1) != nil || !libc.TryWait() || !libc.Post() || words.Value() != 1 || !words.Take() {
		return false
	}
	// A waiter in libc counts itself, and our post wakes it. Nobody posts before it is counted, so
	// a wait that has ended by then was one that this libc does not have, or does in another way.
	const patience = 10 * time.Second // all of it passes only with a libc that counts its waiters elsewhere
	served := make(chan bool, 1)
	go func() { served <- libc.Wait(patience) }()
	for words.Counted() != 1 {
		select {
		case <-served:
			return false
		default:
			runtime.Gosched()
		}
	}
	posted := words.Post(1) == nil
	return <-served && posted && words.Value() == 0 && words.Counted() == 0
}
