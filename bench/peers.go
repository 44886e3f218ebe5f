package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gofrs "github.com/gofrs/flock"
	"github.com/juju/mutex/v2"
	"github.com/rogpeppe/go-internal/lockedfile"
	xsync "golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
)

// A peer is one of those that are compared: a way to let at most n hold a permit.
type peer struct {
	key  string // in raw data, and what programs are told
	name string // in the page
	// create makes one with so many free permits. What it returns is told to the programs that open it.
	create func(permits int) (name string, remove func())
	// program returns the beginning of the command that does the work (worker.go).
	program func() []string
	ours    bool
	open    func(name string) lock // in a program in Go
	single  bool                   // such a lock is for one goroutine at a time, so that each needs its own
	sleep   []int                  // the system calls in which a process sleeps that waits; none if it polls
	cannot  map[ability]string     // what it can't do, and why
	missing func() string          // says that it is not installed, or nothing
	version func() string
	// start returns the command that runs "true" with a permit, for those that are commands. The directory is its own.
	start func(dir string) []string
	stop  func(dir string) // ends what start has left running
}

type lock interface {
	Wait() error
	Post() error
}

// An ability is what a work needs of a peer.
type ability string

const (
	looping    ability = "take and give in a program"
	processes  ability = "several processes"
	several    ability = "several permits"
	handles    ability = "open and close"
	goroutines ability = "goroutines"
	thousands  ability = "10,000 goroutines"
	crowding   ability = "10,000 that wait in a process"
	cancelling ability = "cancel a wait"
	returning  ability = "permits of the dead come back"
	starting   ability = "a command"
)

// cannots joins what several peers have in common with what is a peer's own.
func cannots(all ...map[ability]string) map[ability]string {
	joined := make(map[ability]string)
	for _, some := range all {
		for a, why := range some {
			joined[a] = why
		}
	}
	return joined
}

var (
	notCommand = map[ability]string{starting: "no: not a command"}
	onlyRuns   = map[ability]string{looping: "no: a command", processes: "no: a command", several: "no: a command", handles: "no: a command", goroutines: "no: a command",
		thousands: "no: a command", crowding: "no: a command", cancelling: "no: a command", returning: "no: a command"}
	notGo         = map[ability]string{goroutines: "no: not in Go", thousands: "no: not in Go", cancelling: "no: a wait ends by a signal or a timeout"}
	mutexes       = map[ability]string{several: "no: one permit"}
	lost          = map[ability]string{returning: "no: the permit is lost"}
	threadEach    = map[ability]string{thousands: "no: a thread for each", crowding: "no: a thread for each"}
	opensAtWait   = map[ability]string{handles: "no: each wait opens the file"}
	notCancelling = map[ability]string{cancelling: "no: a wait has no end but the lock"}
)

// title is the peer's name beside those of others.
func (p *peer) title() string {
	if p.ours {
		return "ours: " + p.name
	}
	return p.name
}

func program(path *string) func() []string { return func() []string { return []string{*path} } }

func worker(path *string) func() []string {
	return func() []string { return []string{*path, "worker"} }
}

// command makes the command that does a mode of the work.
func (p *peer) command(mode string, n int, names ...string) *exec.Cmd {
	args := append(p.program(), mode, p.key, strconv.Itoa(n))
	args = append(args, names...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "TMPDIR="+lockFiles()) // where juju/mutex has its files
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

// ours is an engine of this module in one of the builds.
func ours(e semaphore.Engine, build int) *peer { return peers[keyOfOurs(e, build)] }

func inBothBuilds(e semaphore.Engine) []*peer { return []*peer{ours(e, withoutCgo), ours(e, withCgo)} }

func keyOfOurs(e semaphore.Engine, build int) string {
	return nameOf(e) + [...]string{withoutCgo: "-nocgo", withCgo: "-cgo"}[build]
}

// nameOf calls the engine that Open takes by default so: which one that is depends on the build.
func nameOf(e semaphore.Engine) string {
	if e == semaphore.EngineAuto {
		return "default"
	}
	return e.String()
}

func newOurs(e semaphore.Engine, build int) *peer {
	p := &peer{
		key:  keyOfOurs(e, build),
		name: nameOf(e) + ", " + builds[build],
		create: func(permits int) (string, func()) {
			s, remove := newSemaphore(e, permits)
			return s.Name(), remove
		},
		ours:    true,
		program: worker(&programs[build]),
		open:    func(name string) lock { return openSemaphore(e, name) },
		sleep:   []int{unix.SYS_FUTEX_WAITV, unix.SYS_FUTEX},
		cannot:  cannots(notCommand, lost),
	}
	switch e {
	case semaphore.EngineRecoverable:
		delete(p.cannot, returning)
	case semaphore.EngineFlock:
		p.sleep = nil
	}
	return p
}

// newSemaphore creates a semaphore, which remove closes and unlinks.
func newSemaphore(e semaphore.Engine, value int) (s *semaphore.Semaphore, remove func()) {
	if e == semaphore.EngineLibc {
		e = semaphore.EngineNative // which every build of this program can create
	}
	s, err := semaphore.Open(newName(), semaphore.WithEngine(e), semaphore.WithExclusive(true), semaphore.WithValue(value))
	must(err)
	return s, atExit(func() {
		s.Close()
		s.Unlink()
	})
}

// newName returns a name that is not in use; juju/mutex allows no other characters.
func newName() string { return fmt.Sprintf("bench-%d-%d", os.Getpid(), names.Add(1)) }

var names atomic.Int64

func openSemaphore(e semaphore.Engine, name string) *semaphore.Semaphore {
	s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithCreate(false))
	must(err)
	return s
}

// lockFiles returns the directory of the locked files, which is in memory, as semaphores are.
var lockFiles = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("/dev/shm", "semaphore-bench-")
	must(err)
	atExit(func() { os.RemoveAll(dir) })
	return dir
})

// lockFile creates a file to be locked.
func lockFile(int) (name string, remove func()) {
	name = filepath.Join(lockFiles(), newName())
	must(os.WriteFile(name, nil, 0o600))
	return name, func() { os.Remove(name) }
}

var (
	cPeer = &peer{
		key: "c", name: "sem_t in C",
		create:  createNative,
		program: program(&cProgram),
		sleep:   []int{unix.SYS_FUTEX},
		cannot:  cannots(notCommand, notGo, lost),
	}
	sysv = &peer{
		key: "sysv", name: "SysV semop in C",
		create: func(permits int) (string, func()) {
			s, remove := newUndoSemaphore(permits)
			return s.Name(), remove
		},
		program: program(&cProgram),
		sleep:   []int{unix.SYS_SEMOP, unix.SYS_SEMTIMEDOP},
		cannot:  cannots(notCommand, notGo, lost, map[ability]string{handles: "no: an id needs no opening"}),
	}
	sysvUndo = &peer{
		key: "sysv-undo", name: "SysV semop in C, SEM_UNDO",
		create:  sysv.create,
		program: sysv.program,
		sleep:   sysv.sleep,
		cannot: func() map[ability]string {
			c := cannots(sysv.cannot)
			delete(c, returning)
			return c
		}(),
	}
	semLock = &peer{
		key: "semlock", name: "SemLock of Python",
		create:  createNative,
		program: python("_multiprocessing"),
		sleep:   []int{unix.SYS_FUTEX},
		cannot:  cannots(notCommand, notGo, threadEach, lost),
		missing: withoutPython("_multiprocessing"),
		version: func() string { return output(pythonOf("_multiprocessing"), "--version") },
	}
	portalocker = &peer{
		key: "portalocker", name: "portalocker BoundedSemaphore",
		create: func(permits int) (string, func()) {
			name, _ := lockFile(permits)
			return fmt.Sprintf("%s:%d", name, permits), func() {
				files, _ := filepath.Glob(name + "*")
				for _, f := range files {
					os.Remove(f)
				}
			}
		},
		program: python("portalocker"),
		sleep:   []int{unix.SYS_CLOCK_NANOSLEEP},
		cannot:  cannots(notCommand, notGo, threadEach, opensAtWait),
		missing: withoutPython("portalocker"),
		version: func() string {
			return output(pythonOf("portalocker"), "-c", "import portalocker; print('portalocker', portalocker.__version__)")
		},
	}
)

func createNative(permits int) (string, func()) {
	s, remove := newSemaphore(semaphore.EngineNative, permits)
	return s.Name(), remove
}

// pythonOf returns the first Python that has the module: Debian's modules are those of Debian's Python only.
func pythonOf(module string) string {
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(p, "-c", "import "+module).Run() == nil {
			return p
		}
	}
	return ""
}

func python(module string) func() []string {
	return sync.OnceValue(func() []string { return []string{pythonOf(module), "python/bench.py"} })
}

func withoutPython(module string) func() string {
	return func() string {
		if pythonOf(module) == "" {
			return "not installed"
		}
		return ""
	}
}

var xsyncPeer = &peer{
	key: "xsync", name: "x/sync/semaphore",
	create:  func(int) (string, func()) { return "1", func() {} },
	program: worker(&programs[withCgo]),
	open: func(permits string) lock {
		n, err := strconv.Atoi(permits)
		must(err)
		return weighted{xsync.NewWeighted(int64(n))}
	},
	cannot: cannots(notCommand, map[ability]string{processes: "no: one process only", handles: "no: it has no name", returning: "no: one process only"}),
}

type weighted struct{ *xsync.Weighted }

func (w weighted) Wait() error                           { return w.Acquire(context.Background(), 1) }
func (w weighted) WaitContext(ctx context.Context) error { return w.Acquire(ctx, 1) }
func (w weighted) Post() error {
	w.Release(1)
	return nil
}

// Mutexes between processes, in Go.

var jujuMutex = &peer{
	key: "juju", name: "juju/mutex",
	create:  lockFile,
	program: worker(&programs[withCgo]),
	open:    func(name string) lock { return &juju{name: filepath.Base(name)} },
	single:  true,
	sleep:   []int{unix.SYS_FLOCK},
	cannot:  cannots(notCommand, mutexes, opensAtWait),
}

type juju struct {
	name string
	held mutex.Releaser
}

func (j *juju) Wait() error { return j.WaitContext(context.Background()) }

func (j *juju) WaitContext(ctx context.Context) (err error) {
	j.held, err = mutex.Acquire(mutex.Spec{Name: j.name, Clock: clock{}, Delay: time.Millisecond, Cancel: ctx.Done()})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (j *juju) Post() error {
	j.held.Release()
	return nil
}

type clock struct{}

func (clock) After(d time.Duration) <-chan time.Time { return time.After(d) }
func (clock) Now() time.Time                         { return time.Now() }

var gofrsFlock = &peer{
	key: "gofrs", name: "gofrs/flock",
	create:  lockFile,
	program: worker(&programs[withCgo]),
	open:    func(name string) lock { return gofrsLock{gofrs.New(name)} },
	single:  true,
	sleep:   []int{unix.SYS_FLOCK},
	cannot:  cannots(notCommand, mutexes, opensAtWait, threadEach),
}

type gofrsLock struct{ *gofrs.Flock }

func (l gofrsLock) Wait() error { return l.Lock() }
func (l gofrsLock) Post() error { return l.Unlock() }

func (l gofrsLock) WaitContext(ctx context.Context) error {
	_, err := l.TryLockContext(ctx, 10*time.Millisecond)
	return err
}

var lockedFile = &peer{
	key: "lockedfile", name: "go-internal/lockedfile",
	create:  lockFile,
	program: worker(&programs[withCgo]),
	open:    func(name string) lock { return &lockedMutex{Mutex: lockedfile.MutexAt(name)} },
	single:  true,
	sleep:   []int{unix.SYS_FLOCK},
	cannot:  cannots(notCommand, mutexes, opensAtWait, threadEach, notCancelling),
}

type lockedMutex struct {
	*lockedfile.Mutex
	unlock func()
}

func (l *lockedMutex) Wait() (err error) {
	l.unlock, err = l.Lock()
	return err
}

func (l *lockedMutex) Post() error {
	l.unlock()
	return nil
}

// Those that only rows of ratios have.

var (
	// undoInGo is SEM_UNDO in a program in Go, which dies as ours do.
	undoInGo = &peer{
		key:     "undo",
		create:  sysv.create,
		program: worker(&programs[withCgo]),
		open:    func(name string) lock { return openUndoSemaphore(name) },
		sleep:   sysv.sleep,
	}
	// undoBeside is SEM_UNDO in processes that also hold a permit of a recoverable
	// semaphore, each of its own. So they have the same threads and memory as processes that
	// use ours, and take as long to die.
	undoBeside = &peer{
		key:     "undo-beside-ours",
		create:  sysv.create,
		program: worker(&programs[withCgo]),
		open: func(name string) lock {
			beside, _ := newSemaphore(semaphore.EngineRecoverable, 1)
			must(beside.Unlink())
			must(beside.Wait())
			return openUndoSemaphore(name)
		},
		sleep: sysv.sleep,
	}
	// kernelLock is a file lock, of the kind that recoverable semaphores use as liveness
	// locks, but with waiters that wait for it in the kernel: no hand-over by such a lock
	// can be faster.
	kernelLock = &peer{
		key:     "file-lock",
		create:  lockFile,
		program: worker(&programs[withCgo]),
		open: func(name string) lock {
			f, err := os.OpenFile(name, os.O_RDWR, 0)
			must(err)
			return fileLock{f}
		},
		sleep: []int{unix.SYS_FCNTL},
	}
	// flocked is flock(2) of a file, whose waiters the kernel serves in their order.
	flocked = &peer{
		key:     "flock2",
		create:  lockFile,
		program: worker(&programs[withCgo]),
		open: func(name string) lock {
			f, err := os.OpenFile(name, os.O_RDWR, 0)
			must(err)
			return flock{f}
		},
		sleep: []int{unix.SYS_FLOCK},
	}
)

type fileLock struct{ f *os.File }

func (l fileLock) Wait() error { return l.set(unix.F_WRLCK) }
func (l fileLock) Post() error { return l.set(unix.F_UNLCK) }

func (l fileLock) set(lockType int16) error {
	for {
		lock := unix.Flock_t{Type: lockType}
		if err := unix.FcntlFlock(l.f.Fd(), unix.F_OFD_SETLKW, &lock); err != unix.EINTR {
			return err
		}
	}
}

type flock struct{ f *os.File }

func (l flock) Wait() error { return l.set(unix.LOCK_EX) }
func (l flock) Post() error { return l.set(unix.LOCK_UN) }

func (l flock) set(how int) error {
	for {
		if err := unix.Flock(int(l.f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// Commands.

func newCommand(key, name, tool string, start func(dir string) []string, version ...string) *peer {
	return &peer{
		key: key, name: name, cannot: onlyRuns, start: start,
		missing: func() string {
			if _, err := exec.LookPath(tool); err != nil {
				return "not installed"
			}
			return ""
		},
		version: func() string {
			if len(version) == 0 {
				return ""
			}
			return output(version...)
		},
	}
}

var commands = []*peer{
	newCommand("procsem-nocgo", "procsem run, without cgo", "go", runTrue(withoutCgo)),
	newCommand("procsem-cgo", "procsem run, with cgo", "go", runTrue(withCgo)),
	newCommand("flock", "flock(1)", "flock", flockTrue, "flock", "--version"),
	newCommand("sem", "GNU sem", "sem", semTrue, "sem", "--version"),
	taskSpooler,
}

var taskSpooler = func() *peer {
	p := newCommand("tsp", "task-spooler", "tsp", tspTrue, "tsp", "-V")
	p.stop = func(dir string) { tsp(dir, "-K").Run() }
	return p
}()

// compared are the peers of the page, in its order.
var compared = slices.Concat([]*peer{
	cPeer,
	newOurs(semaphore.EngineAuto, withCgo),
	newOurs(semaphore.EngineLibc, withCgo),
	newOurs(semaphore.EngineNative, withoutCgo),
	newOurs(semaphore.EngineRecoverable, withCgo),
	newOurs(semaphore.EngineRecoverable, withoutCgo),
	newOurs(semaphore.EngineFlock, withoutCgo),
	sysv, sysvUndo, xsyncPeer, jujuMutex, gofrsFlock, lockedFile, semLock, portalocker,
}, commands)

// peers are all, by their keys.
var peers = func() map[string]*peer {
	all := make(map[string]*peer)
	for _, p := range slices.Concat(compared, []*peer{
		newOurs(semaphore.EngineAuto, withoutCgo), newOurs(semaphore.EngineNative, withCgo), undoInGo, undoBeside, kernelLock, flocked,
	}) {
		all[p.key] = p
	}
	return all
}()

// output returns the first line that a command prints.
func output(args ...string) string {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(first)
}
