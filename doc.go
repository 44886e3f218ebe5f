// Package semaphore lets at most n processes on a machine, or goroutines of them,
// hold a permit at once. Its [Semaphore] is modelled on POSIX semaphores
// (sem_overview(7)): it has a name that all processes of the machine share, and
// a value, the number of free permits. [Semaphore.Wait] takes a permit, and blocks until one
// is free; [Semaphore.Post] gives one. [Semaphore.Acquire] takes one as a [Permit], which is given back
// once, however often it is released.
//
// There are two kinds. A limit on a resource is opened with [OpenLimit] (or [Do], for one piece of
// work): if a holder dies its permit comes back. Processes that signal to each other, and limits that are
// shared with programs in other languages, use [Open].
//
//	s, err := semaphore.OpenLimit("build", 4)
//	...
//	p, err := s.Acquire(ctx) // at most 4 are held at once, over all processes
//	...
//	defer p.Release()
//
// Programs that also use golang.org/x/sync/semaphore, which limits the
// goroutines of one process, import one of the two by another name:
//
//	import procsem "github.com/procsem/semaphore"
//
// # Engines
//
// A semaphore is kept by one of several engines ([Engine]). On Linux the default
// shares the semaphores of glibc with programs in C, Python and every other
// language, in builds with and without cgo. On other Unix systems it is the C library in
// builds with cgo, and in builds without it a counter in a file under flock(2),
// shared with programs that use this package. On Windows it is CreateSemaphore, shared
// with every program, and the semaphore ends when no process has it open any more
// ([EngineWindows]). All have the same interface and
// POSIX semantics: a bare count, which any process may post. If a process dies (of
// SIGKILL, say) while it holds a permit, that permit is lost until a process
// posts in its place or the semaphore is unlinked. [WithCloseOnExit] covers the
// signals that a program can handle.
//
// The package compiles for every system. On those that have no engine (Plan 9, js, wasip1) Open is
// [ErrUnsupported], and so is OpenLimit on AIX, on MIPS of 32 bits and on Arm before version 7.
//
// A limit over several machines is a Semaphore too: package [etcd] opens it.
//
// # Recovery
//
// [OpenLimit], or [Open] with [WithRecovery], makes semaphores of another kind, [EngineRecoverable], whose permits
// have owners, and are released even if their holder is killed: the permits of a process
// that dies, however it dies, come back as soon as the kernel is done with it. It is the
// kind for limits on a resource. Post gives back only what the handle took with Wait or
// TryWait, else it is [ErrNotHeld]; Close gives back all permits that the handle holds,
// those of Acquire too. OpenLimit's n, as [WithValue], is the limit, 1 to 65535: if it differs from the limit
// in force it is [ErrLimitMismatch] while any process has the semaphore open, and the
// new limit if none has. [Semaphore.SetLimit] changes the limit for all, and what it has
// set stays; [Semaphore.Holders] lists the holders, with what their [WithLabel] says. Programs
// that don't use this package can't share such a semaphore.
//
// The permits have numbers, from 0 to the limit less 1 (one that was acquired before the limit was lowered keeps its own), and [Permit.Slots] returns that of
// a Permit. No two that are held at the same moment have the same one, on the whole
// machine, whoever is killed. So a program can use the number to choose one of several
// devices, ports or databases.
//
// A permit comes back when its handle is closed or its process ends, and not before: a
// goroutine that returns, or panics and is recovered, without having given it back
// keeps it taken, and so does a process that is stopped.
//
// If a parent gives a child its [Semaphore.LockFile], the parent's permits stay taken
// until both are gone (not on Windows).
//
// [Do] opens, acquires, calls a function and gives back; [Semaphore.Locker] makes a [sync.Locker]. For tests there is the package [github.com/procsem/semaphore/semtest].
//
// A name exists in one store only: opening it with an engine of another store is
// [ErrKindMismatch] where the other store can be seen. It cannot be
// seen where libc keeps its semaphores in the kernel or in files of its own
// (macOS, the BSDs, musl) and the build has no cgo, and where two programs have
// different SEMAPHORE_DIRs, or directories of their own ([WithDir]). A build without cgo on a system with musl speaks
// glibc's format all the same; musl's own programs use another file.
//
// # Guarantees
//
// Wait returns nil only with a permit. TryWait, Post and PostN don't block, with one
// exception: if another process keeps the file of an [EngineFlock] semaphore locked, or is
// stopped in the microseconds in which it has that lock, TryWait tries for a second, and
// Post and PostN for ten, after which they fail, with nothing posted. The waiters of one handle are
// served in order of arrival, and TryWait does not overtake them. Those of a recoverable semaphore
// are served so over all handles and processes, but for waits that do not block, which may take
// a permit past those who have waited for less than a millisecond; with other engines there is no order between
// handles or processes. However many goroutines wait on a handle, at most one thread is
// blocked for them. A cancelled Wait returns at once, costs other waiters nothing and
// loses no permit.
//
// What happened before a Post happens before the return of the Wait that it
// let through, in the sense of the Go memory model, between goroutines and
// between processes that share memory. The race detector is told so.
//
// [Semaphore.PostN] gives several permits at once: all or nothing, but for [EngineLibc], which has to post them one by
// one.
//
// [Semaphore.AcquireN] takes several permits of a recoverable semaphore at once, or all of them ([All]):
// all or nothing, in the same order. So a big job may count for two, and readers may take one permit where a
// writer takes all.
//
// # Names that vanish
//
// If a semaphore's file is removed while it is in use, open handles go on with
// the old semaphore, as POSIX has it, and the next Open makes a new one: the
// limit silently doubles. systemd removes a user's files in /dev/shm at the end
// of the last session unless RemoveIPC=no (logind.conf(5)) or it is a system
// user; cleaners of /tmp remove files too. EngineFlock and EngineRecoverable warn in
// the log ([WithLogger]) while a Wait blocks; SEMAPHORE_DIR under /run prevents it.
// Containers share semaphores by sharing /dev/shm or the SEMAPHORE_DIR.
//
// # Locks beside what they guard
//
// [WithDir] keeps a semaphore in a directory that the program names, a cache or a build directory: whoever uses that
// finds the semaphore, and names need not be unique on the machine. It goes with the directory:
// whoever removes all files there while processes use it removes the name too (see above), and a copy of the
// directory has a semaphore of its own. The directory must be on a local filesystem.
//
// # Several users
//
// Only its creator may use a semaphore unless [WithMode], less the umask, lets others
// read and write. In a directory where all users may write, the owner of a file decides
// whom it limits. So EngineFlock and EngineRecoverable refuse files of users other than
// the caller and root with [fs.ErrPermission], also if the caller is root, unless it expects
// files of others: by WithCreate(false), or a WithMode that lets others write. And they
// refuse files that others may write unless WithMode would let them, too: these users can
// put such a file under any other name. On Windows administrators and the system take the
// place of root.
//
// A program that has more rights than whoever starts it (setuid, setgid, a file's
// capabilities: AT_SECURE, issetugid) ignores SEMAPHORE_DIR, which would let its user say
// where it makes files. What it says itself by [WithDir] counts.
//
// # Errors
//
// Every error but a context's own is an [*Error] that names operation and
// semaphore, over a sentinel of this package ([ErrWouldBlock] and its like), one of [fs.ErrNotExist],
// [fs.ErrExist] and fs.ErrPermission, the system's errno, or an error of the store on several machines. What the
// comment of a function lists under "Errors" is what a program may want to tell apart; any call that asks the
// system may fail with an errno besides.
//
// A context must not be nil: a nil one panics.
//
// [etcd]: https://pkg.go.dev/github.com/procsem/semaphore/etcd
package semaphore
