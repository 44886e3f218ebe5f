package main

import (
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An undoSemaphore is a System V semaphore whose operations the kernel undoes when the
// process that did them ends.
type undoSemaphore int

// newUndoSemaphore creates one with that value.
func newUndoSemaphore(value int) (s undoSemaphore, remove func()) {
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, unix.IPC_PRIVATE, 1, unix.IPC_CREAT|0o600)
	if errno != 0 {
		fail("semget: %v", errno)
	}
	remove = atExit(func() { unix.Syscall6(unix.SYS_SEMCTL, id, 0, unix.IPC_RMID, 0, 0, 0) })
	const setVal = 16 // SETVAL of <sys/sem.h>
	if _, _, errno := unix.Syscall6(unix.SYS_SEMCTL, id, 0, setVal, uintptr(value), 0, 0); errno != 0 {
		fail("semctl: %v", errno)
	}
	return undoSemaphore(id), remove
}

func openUndoSemaphore(name string) undoSemaphore {
	id, err := strconv.Atoi(name)
	must(err)
	return undoSemaphore(id)
}

func (s undoSemaphore) Name() string { return strconv.Itoa(int(s)) }

func (s undoSemaphore) Wait() error { return s.add(-1) }
func (s undoSemaphore) Post() error { return s.add(1) }

func (s undoSemaphore) add(n int16) error {
	const undo = 0x1000 // SEM_UNDO of <sys/sem.h>
	op := struct{ num, op, flags int16 }{0, n, undo}
	for {
		_, _, errno := unix.Syscall(unix.SYS_SEMOP, uintptr(s), uintptr(unsafe.Pointer(&op)), 1)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}
