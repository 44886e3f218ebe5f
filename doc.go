// Package semaphore limits how many goroutines of how many processes do
// something at the same time. Its [Semaphore] is modelled on POSIX semaphores
// (sem_overview(7)): it has a name that all processes of the machine share, and
// a value, the number of free permits. Wait takes a permit, and blocks while
// there is none; Post gives one.
//
//	s, err := semaphore.Open("build", semaphore.WithValue(4), semaphore.WithRecovery(true))
//	...
//	p, err := s.Acquire(ctx) // at most 4 of all processes are past this line
//	...
//	defer p.Release()
//
// Programs that use golang.org/x/sync/semaphore too, which limits the
// goroutines of one process, give one of them another name:
//
//	import procsem "github.com/procsem/semaphore"
//
// # Engines
//
// A semaphore is kept by one of several engines ([Engine]). On Linux the default
// shares the semaphores of glibc with programs in C, Python and every other
// language, with or without cgo. On other Unix systems it is the C library in
// builds with cgo, and in builds without it a counter in a file under flock(2),
// shared with programs that use this package. On Windows it is CreateSemaphore, shared
// with every program, and the semaphore lives no longer than somebody has it open
// ([EngineWindows]). All have the same interface and
// POSIX semantics: a bare count, that anybody may post. If a process dies (of
// SIGKILL, say) while it holds a permit, that permit is lost, until somebody
// posts in its stead or the semaphore is unlinked. [WithCloseOnExit] covers the
// signals that a program can see.
//
// # Recovery
//
// [WithRecovery] makes semaphores of another kind, [EngineRecoverable], whose permits
// have owners: those of a process that dies, however it dies, come back as soon as the
// kernel is done with it. It is the kind for limits on a resource. Post gives back only
// what the handle took with Wait or TryWait, else it is [ErrNotHeld]; Close gives
// back all that the handle holds, what Acquire took among it. WithValue is the limit,
// 1 to 65535: another one than that in force is [ErrLimitMismatch] while somebody has
// the semaphore open, and the new limit if nobody has. [Semaphore.SetLimit] changes it
// for all, and what it has set stays; [Semaphore.Holders] says who holds. Programs that
// don't use this package can't share it.
//
// A permit comes back when its handle is closed or its process ends, and not before: a
// goroutine that returns, or panics and is recovered, without having given it back
// keeps it taken, and so does a process that is stopped.
//
// A parent that gives a child its [Semaphore.LockFile] keeps its permits taken until
// both are gone (not on Windows).
//
// A name exists in one kind of store only: opening it with an engine of
// another is [ErrKindMismatch] where the other store can be seen. It cannot be
// seen where libc keeps its semaphores in the kernel or in a place of its own
// (macOS, the BSDs, musl) and the build has no cgo, and where two programs have
// different SEMAPHORE_DIRs. A build without cgo on a system with musl speaks
// glibc's format all the same; musl's own programs use another file.
//
// # Guarantees
//
// Wait returns nil only with a permit. TryWait and Post don't block, but for
// EngineFlock's, if another process is stopped in the microseconds in which it
// has the file locked: TryWait then tries for a second, Post until it can. Waiters
// of one handle are served in order of arrival, and TryWait does not overtake them;
// there is no order between handles or processes. However many goroutines wait on a
// handle, one thread at most is blocked for them. Cancelling returns at once, costs
// other waiters nothing and loses no permit.
//
// What happened before a Post happens before the return of the Wait that it
// let through, in the sense of the Go memory model, between goroutines as
// between processes that share memory. The race detector knows.
//
// Not offered: taking several permits at once, and fairness between processes.
//
// # Names that vanish
//
// If a semaphore's file is removed while it is in use, open handles go on with
// the old semaphore, as POSIX has it, and the next Open makes a new one: the
// limit silently doubles. systemd removes a user's files in /dev/shm at the end
// of the last session unless RemoveIPC=no (logind.conf(5)) or it is a system
// user; cleaners of /tmp do likewise. EngineFlock and EngineRecoverable warn in
// the log ([WithLogger]) while a Wait blocks; SEMAPHORE_DIR under /run prevents it.
// Containers share semaphores by sharing /dev/shm or the SEMAPHORE_DIR.
//
// # Several users
//
// A semaphore is its creator's alone unless [WithMode], less the umask, lets others
// read and write. In a directory where all may write, the owner of a file decides whom
// it limits. So EngineFlock and EngineRecoverable refuse files of other users than root
// with fs.ErrPermission, unless the caller is root or expects others: by
// WithCreate(false), or a WithMode that lets others write. On Windows administrators and
// the system stand for root.
//
// # Errors
//
// Every error but a context's own is an [*Error] that names operation and
// semaphore, over a sentinel of this package, one of fs.ErrNotExist,
// fs.ErrExist and fs.ErrPermission, or the system's errno.
package semaphore
