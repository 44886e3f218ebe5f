//go:build linux

// Tests of EngineNative beyond the conformance table: the words in the file,
// kills, hand-overs within a handle, hostile files.

package glibc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

func TestMain(m *testing.M) {
	os.Exit(Main(m, Helpers{
		"actor":     ActorMain,
		"fast":      fastMain,
		"waiter":    waiterMain,
		"poster":    posterMain,
		"truncated": truncatedMain,
		"leaver":    leaverMain,
	}))
}

func TestNativeWords(t *testing.T) {
	name := UniqueName(t)
	s := Open(t, name, semaphore.EngineNative, semaphore.WithValue(3))
	b, err := os.ReadFile(StoreFile(semaphore.EngineNative, name))
	Must(t, err)
	want := make([]byte, 32)
	if strconv.IntSize == 32 {
		want = want[:16]
		binary.NativeEndian.PutUint32(want, 3<<1)
		binary.NativeEndian.PutUint32(want[4:], 128)
	} else {
		binary.NativeEndian.PutUint64(want, 3)
		binary.NativeEndian.PutUint32(want[8:], 128)
	}
	if !bytes.Equal(b, want) {
		t.Errorf("file % x, want % x", b, want)
	}
	for range 3 {
		Must(t, s.Wait())
	}
	waiting := []<-chan error{Blocked(t, s, s.Wait), Blocked(t, s, s.Wait)}
	WaitFor(t, "one waiter for all of the handle", func() bool { v, w := Words(t, name); return v == 0 && w == 1 })
	for _, w := range waiting {
		Must(t, s.Post())
		Must(t, Result(t, w))
	}
	WaitFor(t, "no waiter", func() bool { v, w := Words(t, name); return v == 0 && w == 0 })
}

func TestFastPathAllocatesNothing(t *testing.T) {
	for _, e := range []semaphore.Engine{semaphore.EngineAuto, semaphore.EngineNative, semaphore.EngineRecoverable} {
		if !HasEngine(e) {
			continue
		}
		s := Open(t, UniqueName(t), e)
		if n := testing.AllocsPerRun(1000, func() {
			if s.Wait() != nil || s.Post() != nil || s.TryWait() != nil || s.Post() != nil {
				t.Error("failed")
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations", e, n)
		}
		Must(t, s.Wait())
		for what, try := range map[string]func() error{"TryWait": s.TryWait, "TryAcquire": func() error { _, err := s.TryAcquire(); return err }} {
			if n := testing.AllocsPerRun(1000, func() {
				if !errors.Is(try(), semaphore.ErrWouldBlock) {
					t.Errorf("%s: not in vain", what)
				}
			}); n != 0 {
				t.Errorf("%v: %s in vain: %v allocations", e, what, n)
			}
		}
	}
}

// Uncontended, no system call is made.
func TestFastPathMakesNoSystemCall(t *testing.T) {
	UseHelper("fast")
	for _, e := range []semaphore.Engine{semaphore.EngineNative, semaphore.EngineRecoverable} {
		t.Run(e.String(), func(t *testing.T) {
			NeedTool(t, "strace")
			NeedCallNumbers(t)
			NeedEngine(t, e)
			name := UniqueName(t)
			s := Open(t, name, e)
			if Owns(e) {
				killWaiters(t, s)
			}
			traceFast(t, name, e)
		})
	}
}

// killWaiters kills processes that wait for s. They stay counted as waiters until
// a permit is given back.
func killWaiters(t *testing.T, s *semaphore.Semaphore) {
	Must(t, s.Wait())
	var killed []*Actor
	for range 8 {
		a := StartActor(t, s.Engine().String())
		a.OK("open %s", s.Name())
		a.Send("waits 1")
		killed = append(killed, a)
	}
	WaitFor(t, "waiters", func() bool {
		hs, err := s.Holders()
		Must(t, err)
		return len(hs) == 1+len(killed)
	})
	for _, a := range killed {
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
	}
	Must(t, s.Post())
}

func traceFast(t *testing.T, name string, e semaphore.Engine) {
	log := filepath.Join(t.TempDir(), "strace")
	direct := Helper(t, "fast", name, e.String())
	cmd := exec.Command("strace", append([]string{"-f", "-qq", "-o", log}, direct.Args...)...)
	cmd.Env, cmd.Stderr = direct.Env, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(log)
	Must(t, err)
	// The race detector gets memory from time to time: one round without a call will do.
	var between []string
	rounds, quiet := 0, 0
	inside := false
	var pid string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case strings.Contains(line, "getpriority(PRIO_PROCESS, 12345"):
			inside, pid = !inside, f[0]
			if inside {
				rounds, between = rounds+1, nil
			} else if len(between) == 0 {
				quiet++
			}
		case inside && f[0] == pid && !strings.Contains(line, "getpriority resumed"):
			between = append(between, line)
		}
	}
	if rounds != fastRounds || inside {
		t.Fatalf("marks of %d rounds in the trace, want %d:\n%s", rounds, fastRounds, b)
	}
	if quiet == 0 {
		t.Errorf("system calls in each round; in the last one:\n%s", strings.Join(between, ""))
	}
}

// With so many rounds a signal of the runtime, whose delivery is a system call, is not in each.
const fastRounds = 50

// fastMain marks rounds of uncontended operations by system calls that nothing else
// makes.
func fastMain(args []string) int {
	s, err := semaphore.Open(args[0], semaphore.WithEngine(EngineOf(args[1])))
	if err != nil {
		panic(err)
	}
	mark := func() { unix.Getpriority(unix.PRIO_PROCESS, 12345) }
	for range fastRounds {
		mark()
		for range 100 {
			if s.Wait() != nil || s.Post() != nil || s.TryWait() != nil || s.Post() != nil {
				panic("failed")
			}
		}
		mark()
	}
	return 0
}

// A handle that hands permits from goroutine to goroutine does not starve other
// processes. (TestHandOversAreBounded has the bound; we do not decide which process
// takes a posted permit.)
func TestHandOversStarveNoProcess(t *testing.T) {
	name := UniqueName(t)
	s := Open(t, name, semaphore.EngineNative)
	c := StartActor(t, "C")
	c.OK("open /%s", name)
	var stop atomic.Bool
	var taken atomic.Int64
	var all sync.WaitGroup
	const goroutines = 50
	for range goroutines {
		all.Go(func() {
			for !stop.Load() {
				Must(t, s.Wait())
				taken.Add(1)
				Must(t, s.Post())
			}
		})
	}
	defer all.Wait()
	defer stop.Store(true)
	WaitFor(t, "contention within the process", func() bool { return testhook.Inspect(s).Waiting > goroutines/2 })
	var most int64
	for range Times(20) {
		Must(t, s.Wait()) // so that C has to wait
		c.Send("waits 1")
		WaitFor(t, "a waiter in C", func() bool { _, w := Words(t, name); return w >= 2 })
		before := taken.Load()
		Must(t, s.Post())
		if got := c.Answer(); got != "ok" {
			t.Fatal(got)
		}
		most = max(most, taken.Load()-before)
		c.OK("posts 1")
	}
	t.Logf("%d hand-overs at the most while another process waited", most)
}

// A waiter that is killed after it was woken and before it took the permit
// takes the wake-up along. That moment is too short to hit, so the test
// leaves behind what such a waiter would: a permit in the word that no waiter was
// woken for.
func TestSafetyNetRescuesFromLostWakeUp(t *testing.T) {
	UseHelper("waiter")
	NeedCallNumbers(t)
	name := UniqueName(t)
	Open(t, name, semaphore.EngineNative, semaphore.WithValue(0))
	lose := func() {
		f, err := os.OpenFile(StoreFile(semaphore.EngineNative, name), os.O_RDWR, 0)
		Must(t, err)
		defer f.Close()
		m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		Must(t, err)
		defer unix.Munmap(m)
		if strconv.IntSize == 32 {
			atomic.AddUint32((*uint32)(unsafe.Pointer(&m[0])), 2)
		} else {
			atomic.AddUint64((*uint64)(unsafe.Pointer(&m[0])), 1)
		}
	}
	start := func(net string) *Actor {
		cmd := Helper(t, "waiter", name)
		cmd.Env = append(cmd.Env, NetVariable+"="+net)
		a := StartActorCommand(t, "waiter", cmd)
		WaitFor(t, "a sleeping waiter", func() bool {
			_, w := Words(t, name)
			return w == 1 && Sleeper(a.Cmd.Process.Pid, StoreFile(semaphore.EngineNative, name)) != 0
		})
		return a
	}
	a := start("on")
	lose()
	if got := a.Answer(); got != "taken, 1 rescued" {
		t.Errorf("with the net: %s", got)
	}
	Must(t, a.Cmd.Wait())
	if _, w := Words(t, name); w != 0 {
		t.Fatalf("%d waiters left", w)
	}

	// It was the net that rescued: without it the waiter sleeps on until it is woken.
	b := start("off")
	lose()
	s := Open(t, name, semaphore.EngineNative)
	Must(t, s.TryWait())
	Must(t, s.Post())
	if got := b.Answer(); got != "taken, 0 rescued" {
		t.Errorf("without the net: %s", got)
	}
}

// waiterMain takes one permit, or with another argument permits for ever.
func waiterMain(args []string) int {
	s, err := semaphore.Open(args[0], semaphore.WithEngine(semaphore.EngineNative), semaphore.WithCreate(false))
	if err != nil {
		panic(err)
	}
	for {
		if err := s.Wait(); err != nil {
			panic(err)
		}
		fmt.Printf("taken, %d rescued\n", int(testhook.Rescued.Load()))
		if len(args) == 1 {
			s.Close() // otherwise it might stay counted as a waiter
			return 0
		}
	}
}

// The net looks without giving up the waiter's position in the kernel's queue: a waiter
// that waits for longer than the net's second is served before waiters that came later.
func TestSafetyNetKeepsQueuePosition(t *testing.T) {
	UseHelper("waiter")
	NeedCallNumbers(t)
	// The net may look between the wake-up of a waiter and its turn on a processor, and count it as rescued; but not each time.
	for range 3 {
		got := servedAfterLooks(t)
		if got == "taken, 0 rescued" {
			return
		}
		t.Logf("the first waiter: %s", got)
	}
	t.Error("the first waiter was not woken by the permit")
}

// servedAfterLooks has two waiters, the first with the net, which has looked for it before two permits come, and returns what it says.
func servedAfterLooks(t *testing.T) string {
	name := UniqueName(t)
	s := Open(t, name, semaphore.EngineNative, semaphore.WithValue(0))
	cmd := Helper(t, "waiter", name)
	cmd.Env = append(cmd.Env, NetVariable+"=on")
	first := StartActorCommand(t, "waiter", cmd)
	WaitFor(t, "the first waiter", func() bool {
		_, w := Words(t, name)
		return w == 1 && Sleeper(first.Cmd.Process.Pid, StoreFile(semaphore.EngineNative, name)) != 0
	})
	second := StartActor(t, "C")
	second.OK("open /%s", name)
	second.Send("waits 1")
	WaitFor(t, "the second waiter", func() bool { _, w := Words(t, name); return w == 2 && second.Sleeping() })
	time.Sleep(2200 * time.Millisecond) // two looks of the net
	Must(t, s.Post())
	got := first.Answer()
	Must(t, s.Post())
	if got := second.Answer(); got != "ok" {
		t.Errorf("the second waiter: %s", got)
	}
	return got
}

// A program that cancels its wait, closes and ends leaves everything as it should be, at
// whatever moment a permit comes: it neither takes the permit or the wake-up along, nor
// stays counted as a waiter.
func TestClosingLeavesNothingBehind(t *testing.T) {
	UseHelper("leaver")
	for _, e := range []semaphore.Engine{semaphore.EngineNative, semaphore.EngineLibc} {
		t.Run(e.String(), func(t *testing.T) {
			NeedEngine(t, e)
			NeedGlibc(t, e)
			name := UniqueName(t)
			Open(t, name, semaphore.EngineNative, semaphore.WithValue(0))
			behind := StartActor(t, "C")
			behind.OK("open /%s", name)
			for range Times(30) {
				a := StartActorCommand(t, "leaver", Helper(t, "leaver", name, e.String()))
				if got := a.Answer(); got != "waiting" {
					t.Fatal(got)
				}
				WaitFor(t, "the leaver's wait", func() bool { _, w := Words(t, name); return w == 1 })
				behind.Send("waits 1")
				WaitFor(t, "a waiter behind it", func() bool { _, w := Words(t, name); return w == 2 })
				a.Send("")
				if got := behind.Answer(); got != "ok" {
					t.Fatal(got)
				}
				Must(t, a.Cmd.Wait())
				if v, w := Words(t, name); v != 0 || w != 0 {
					t.Fatalf("value %d, waiters %d; want none", v, w)
				}
			}
		})
	}
}

func leaverMain(args []string) int {
	open := func() *semaphore.Semaphore {
		s, err := semaphore.Open(args[0], semaphore.WithEngine(EngineOf(args[1])), semaphore.WithCreate(false))
		if err != nil {
			panic(err)
		}
		return s
	}
	s, poster := open(), open()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.WaitContext(ctx) }()
	fmt.Println("waiting")
	fmt.Scanln()
	cancel()
	if err := poster.Post(); err != nil {
		panic(err)
	}
	if <-done == nil && s.Post() != nil {
		panic("no Post")
	}
	s.Close()
	return 0
}

// Waiters are killed at random while others wait: the waiters that are left get the
// permits that are there, by the net within its second.
func TestKilledWaiters(t *testing.T) {
	name := UniqueName(t)
	s := Open(t, name, semaphore.EngineNative, semaphore.WithValue(0))
	start := func() *Actor {
		cmd := Helper(t, "waiter", name, "for ever")
		cmd.Env = append(cmd.Env, NetVariable+"=on")
		return StartActorCommand(t, "waiter", cmd)
	}
	var victims []*Actor
	for range 4 {
		victims = append(victims, start())
	}
	survivor := start()
	rescued := 0
	kills := Times(60)
	for i := range kills {
		victim := victims[i%len(victims)]
		go func() { victim.Cmd.Process.Kill() }() // at the moment of the posts
		for range 3 {
			Must(t, s.Post())
		}
		victim.Cmd.Wait()
		victims[i%len(victims)] = start()
		// The living waiters take all permits that are left; each of them sleeps
		// for at most a second beside a free one.
		WaitFor(t, "permits taken by the living waiters", func() bool {
			v, _ := Words(t, name)
			return v == 0
		})
		for drained := false; !drained; {
			select {
			case line := <-survivor.Lines:
				fmt.Sscanf(line, "taken, %d rescued", &rescued)
			default:
				drained = true
			}
		}
	}
	t.Logf("%d waiters killed; the survivor was rescued %d times", kills, rescued)
}

// Posters killed at any moment: each permit is posted or not, and waiters find those
// that are.
func TestKilledPosters(t *testing.T) {
	UseHelper("poster")
	name := UniqueName(t)
	s := Open(t, name, semaphore.EngineNative, semaphore.WithValue(0))
	for range Times(40) {
		a := StartActorCommand(t, "poster", Helper(t, "poster", name))
		Must(t, s.WaitTimeout(Hang))                                          // it posts
		time.Sleep(time.Duration(rand.Int64N(int64(300 * time.Microsecond)))) // the moment to be killed at
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
		for s.TryWait() == nil {
		}
		// Our own server stops being counted some time after it has served the wait.
		WaitFor(t, "no value and no waiters", func() bool {
			v, w := Words(t, name)
			return v == 0 && w == 0
		})
	}
}

func posterMain(args []string) int {
	s, err := semaphore.Open(args[0], semaphore.WithEngine(semaphore.EngineNative), semaphore.WithCreate(false))
	if err != nil {
		panic(err)
	}
	for s.Post() == nil {
	}
	return 0
}

// Goroutines and processes wait, cancel, post and close, all at once; after that
// the value and the number of waiters are exact.
func TestNativeStress(t *testing.T) {
	for _, row := range Rows {
		if row.Engine != semaphore.EngineNative {
			continue
		}
		t.Run(row.Name, func(t *testing.T) {
			if row.Before != nil {
				defer row.Before()()
			}
			name := UniqueName(t)
			const permits = 3
			Open(t, name, semaphore.EngineNative, semaphore.WithValue(permits))
			dir := t.TempDir()
			var actors []*Actor
			for _, kind := range []string{"native", "C"} {
				a := StartActor(t, kind)
				a.OK("open /%s", name)
				actors = append(actors, a)
			}
			for _, a := range actors {
				a.Send("rounds 300 %d %s", permits, dir)
			}
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for range 25 {
						s, err := semaphore.Open(name, semaphore.WithEngine(semaphore.EngineNative))
						Must(t, err)
						var users sync.WaitGroup
						for range 5 {
							users.Go(func() {
								ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.Int64N(int64(time.Millisecond))))
								defer cancel()
								for {
									p, err := s.Acquire(ctx)
									if err != nil {
										if err != context.DeadlineExceeded && !errors.Is(err, semaphore.ErrClosed) {
											t.Error(err)
										}
										return
									}
									if err := p.Release(); err != nil {
										t.Error(err)
									}
								}
							})
						}
						if rand.IntN(2) == 0 {
							users.Wait()
						}
						Must(t, s.Close())
						users.Wait()
					}
				})
			}
			all.Wait()
			for _, a := range actors {
				if got := a.Answer(); got != "ok" {
					t.Errorf("%s actor: %s", a.Kind, got)
				}
			}
			WaitFor(t, "all permits back, no waiter", func() bool { v, w := Words(t, name); return v == permits && w == 0 })
		})
	}
}

// A file that is no semaphore is refused, at once, and left as it is.
func TestNativeRefusesWhatIsNoSemaphore(t *testing.T) {
	file := func(size int, set map[int]uint32) func(path string) error {
		b := make([]byte, size)
		for at, v := range set {
			binary.NativeEndian.PutUint32(b[at:], v)
		}
		return func(path string) error { return os.WriteFile(path, b, 0o600) }
	}
	size, other, private := 32, 16, 8
	if strconv.IntSize == 32 {
		size, other, private = 16, 32, 4
	}
	for _, tt := range []struct {
		what string
		make func(path string) error
		text string
	}{
		{"empty", file(0, nil), "0 bytes"},
		{"truncated", file(size-1, nil), fmt.Sprint(size-1, " bytes")},
		{"too long", file(4096, nil), "4096 bytes"},
		{"another word size", file(other, nil), fmt.Sprint("programs of ", 96-strconv.IntSize, " bits")},
		{"not shared", file(size, map[int]uint32{private: 0}), "not shared"},
		{"impossible value", file(size, map[int]uint32{0: 1<<32 - 1, 4: 1<<32 - 1, private: 128}), "value"},
		{"symbolic link", func(path string) error { return os.Symlink("/dev/null", path) }, "no regular file"},
		{"directory", func(path string) error { return os.Mkdir(path, 0o700) }, "no regular file"},
		{"fifo", func(path string) error { return unix.Mkfifo(path, 0o600) }, "no regular file"},
		{"device", func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) }, "no regular file"},
	} {
		for _, e := range []semaphore.Engine{semaphore.EngineNative, semaphore.EngineLibc} {
			t.Run(fmt.Sprint(tt.what, " ", e), func(t *testing.T) {
				NeedEngine(t, e)
				NeedGlibc(t, e)
				if tt.what == "impossible value" && strconv.IntSize == 32 {
					t.Skip("not on this system: a value that does not fit into 31 bits")
				}
				name := UniqueName(t)
				path := StoreFile(e, name)
				if err := tt.make(path); errors.Is(err, fs.ErrPermission) {
					Missing(t, "root")
				} else if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.Remove(path) }) // Unlink removes no directory
				content := func() (b []byte) {
					if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
						b, _ = os.ReadFile(path)
					}
					return b
				}
				before := content()
				for _, opts := range [][]semaphore.Option{nil, {semaphore.WithCreate(false)}} {
					err := Result(t, InBackground(func() error {
						_, err := semaphore.Open(name, append(opts, semaphore.WithEngine(e))...)
						return err
					}))
					WantErr(t, "Open", err, semaphore.ErrCorrupt)
					if err != nil && !strings.Contains(err.Error(), tt.text) {
						t.Errorf("error %q, want it to contain %q", err, tt.text)
					}
				}
				_, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithExclusive(true))
				WantErr(t, "exclusive Open", err, fs.ErrExist)
				if after := content(); !bytes.Equal(before, after) {
					t.Errorf("the file was changed: % x", after)
				}
			})
		}
	}
}

// The semaphore is memory shared with every process that may write the file. If
// a process truncates the file, access to it is a fatal error, as it is in libc; the
// program does not go on with something else.
func TestNativeTruncatedWhileOpen(t *testing.T) {
	cmd := Helper(t, "truncated", UniqueName(t))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if err == nil || !strings.Contains(stderr.String(), "SIGBUS") {
		t.Errorf("%v, stderr %q; want it to die of SIGBUS", err, &stderr)
	}
}

func truncatedMain(args []string) int {
	s, err := semaphore.Open(args[0], semaphore.WithEngine(semaphore.EngineNative))
	if err != nil {
		panic(err)
	}
	if err := os.Truncate("/dev/shm/sem."+args[0], 0); err != nil {
		panic(err)
	}
	fmt.Println(s.Wait())
	return 0
}

func FuzzOpenNative(f *testing.F) {
	for _, size := range []int{0, 1, 15, 16, 31, 32, 33, 4096} {
		b := make([]byte, size)
		f.Add(b)
		if size >= 16 {
			b = bytes.Clone(b)
			binary.NativeEndian.PutUint32(b[8:], 128)
			f.Add(b)
		}
	}
	FuzzOpen(f, semaphore.EngineNative)
}
