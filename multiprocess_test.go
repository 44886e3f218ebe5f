//go:build unix || windows

package semaphore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// Processes of every kind work under one limit; as many as the limit allows
// are inside, and never more.
func TestLimitAcrossProcesses(t *testing.T) {
	EachStore(t, func(t *testing.T, kinds []string) {
		const limit, each = 2, 2
		rounds := Times(150)
		s := Open(t, UniqueName(t), EngineOf(kinds[0]), semaphore.WithValue(limit))
		dir := TempDir(t)
		var actors []*Actor
		for _, kind := range append(kinds, kinds[0]) {
			for range each {
				a := StartActor(t, kind)
				a.OK("open /%s", s.Name())
				actors = append(actors, a)
			}
		}
		for _, a := range actors {
			a.Send("rounds %d %d %s", rounds, limit, dir)
		}
		for _, a := range actors {
			if got := a.Answer(); got != "ok" {
				t.Errorf("%s actor: %s", a.Kind, got)
			}
		}
		Becomes(t, s, limit)
		// The witness does see a violation: with more permits than the limit,
		// more processes are inside.
		for range 4 {
			Must(t, s.Post())
		}
		for seen := false; !seen && !t.Failed(); {
			for _, a := range actors {
				a.Send("rounds %d %d %s", rounds, limit, dir)
			}
			for _, a := range actors {
				seen = strings.HasSuffix(a.Answer(), "inside") || seen
			}
		}
	})
}

// A post in a process of any kind wakes a waiter in a process of any other kind,
// and after thousands of posts and waits the count is right.
func TestPostWakesAcrossProcesses(t *testing.T) {
	NeedSleeping(t)
	EachStore(t, func(t *testing.T, kinds []string) {
		for _, creator := range kinds {
			for _, waiter := range kinds {
				for _, poster := range kinds {
					t.Run(creator+" "+waiter+" "+poster, func(t *testing.T) {
						name := UniqueName(t)
						c, w, p := StartActor(t, creator), StartActor(t, waiter), StartActor(t, poster)
						c.OK("create /%s 0", name)
						w.OK("open /%s", name)
						p.OK("open /%s", name)
						c.Expect("EEXIST", "create /%s 0", name)
						c.OK("open /%s", name)
						w.Expect("EAGAIN", "trywait")
						w.Send("waits 1")
						WaitFor(t, "a sleeping waiter", w.Sleeping)
						p.OK("posts 1")
						if got := w.Answer(); got != "ok" {
							t.Fatal(got)
						}
						n := Times(1500)
						w.Send("waits %d", n) // some block, some do not
						p.OK("posts %d", n+1)
						if got := w.Answer(); got != "ok" {
							t.Fatal(got)
						}
						value := func(want string) {
							c.Send("value")
							if got := c.Answer(); got != want && !(creator == "libc" && got == syscall.ENOSYS.Error()) {
								t.Fatalf("%s actor, value: got %q, want %q", creator, got, want)
							}
						}
						value("ok 1")
						w.OK("trywait")
						value("ok 0")
						c.OK("unlink")
						if UnlinkFrees(EngineOf(kinds[0])) {
							c.Expect("ENOENT", "unlink")
							w.Expect("ENOENT", "open /%s", name)
						}
					})
				}
			}
		}
	})
}

func TestExclusiveCreationHasOneWinner(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		for range Times(10) {
			got := Race(t, UniqueName(t), true, []semaphore.Engine{e, e, e, e, e, e, e, e})
			if got["won"] != 1 || got["exists"] != 7 {
				t.Errorf("got %v, want one winner of eight", got)
			}
		}
	})
}

// A creator that is killed halfway leaves nothing that makes a later Open fail, and
// no file. (Where we do not know a libc's files, its sem_open may leave a temporary one.)
func TestKilledCreators(t *testing.T) {
	UseHelper("create")
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if (e == semaphore.EngineLibc || e == semaphore.EngineAuto && HasEngine(semaphore.EngineLibc)) && testhook.Libc.Path == nil {
			return
		}
		dir := TempDir(t)
		t.Setenv("SEMAPHORE_DIR", dir)
		for range Times(40) {
			name := UniqueName(t)
			a := StartActorCommand(t, "create", Helper(t, "create", name, fmt.Sprint(int(e)), "false"))
			if got := a.Answer(); got != "ready" {
				t.Fatal(got)
			}
			a.Send("")
			time.Sleep(time.Duration(rand.Int64N(int64(400 * time.Microsecond)))) // the moment to be killed at
			Must(t, a.Cmd.Process.Kill())
			a.Cmd.Wait()
			s, err := semaphore.Open(name, semaphore.WithEngine(e))
			Must(t, err)
			Must(t, s.TryWait())
			Must(t, s.Post())
			Must(t, s.Unlink())
			Must(t, s.Close())
		}
		var left []string
		WaitFor(t, "an empty directory", func() bool {
			runtime.GC() // on Windows a removed file is gone when no process has it mapped
			left, _ = filepath.Glob(filepath.Join(dir, "*"))
			return len(left) == 0 || runtime.GOOS != "windows"
		})
		if len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

// An Open whose semaphore is unlinked while it is opened makes or finds another one.
func TestOpenWhileUnlinked(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if runtime.GOOS == "windows" {
			return // a name that is being removed there is one that may not be opened
		}
		name := UniqueName(t)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for i := range Times(200) {
					s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithExclusive(i%2 == 0))
					if errors.Is(err, fs.ErrExist) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					if err := s.Unlink(); err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Error(err)
					}
					s.Close()
				}
			})
		}
		all.Wait()
		if err := semaphore.Unlink(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}
