//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

package recoverable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/store"
	. "github.com/procsem/semaphore/internal/testkit"
)

func unlinkUnused(name string) error {
	all := engine.Registered()
	return all[slices.IndexFunc(all, func(e *engine.Engine) bool { return e.Name == Recoverable.String() })].UnlinkUnused("", name)
}

// The name stays while a handle is open, whether it holds anything or not, and goes when the last one is closed.
func TestUnlinkUnused(t *testing.T) {
	t.Run("native", testUnlinkUnused)
	t.Run("portable", func(t *testing.T) {
		defer Portable()()
		testUnlinkUnused(t)
	})
}

func testUnlinkUnused(t *testing.T) {
	name := UniqueName(t)
	WantErr(t, "no such semaphore", unlinkUnused(name), fs.ErrNotExist)
	s := Open(t, name, Recoverable, semaphore.WithValue(3), semaphore.WithLabel("first"))
	second := Open(t, name, Recoverable)
	Must(t, second.Wait())
	var in *engine.InUse
	if err := unlinkUnused(name); !errors.As(err, &in) || len(in.Users) != 2 {
		t.Fatalf("two have it open: %v, %+v", err, in)
	}
	if u := in.Users[0]; u.PID != os.Getpid() || u.Label != "first" || u.Permits != 0 {
		t.Errorf("got %+v", u)
	}
	Must(t, second.Close())
	if err := unlinkUnused(name); !errors.As(err, &in) || len(in.Users) != 1 {
		t.Fatalf("one has it open: %v, %+v", err, in)
	}
	Must(t, s.Close())
	Must(t, unlinkUnused(name))
	WantErr(t, "it was removed", unlinkUnused(name), fs.ErrNotExist)
	if left, err := filepath.Glob(StoreFile(Recoverable, name) + "*"); err != nil || left != nil {
		t.Errorf("left are %q, %v", left, err)
	}
}

// A name that others remove only when nobody has the semaphore open stays for as long as a handle is, whoever
// opened it at the moment of the look.
func TestUnlinkUnusedAgainstOpen(t *testing.T) {
	t.Run("native", testUnlinkUnusedAgainstOpen)
	t.Run("portable", func(t *testing.T) {
		defer Portable()()
		testUnlinkUnusedAgainstOpen(t)
	})
}

func testUnlinkUnusedAgainstOpen(t *testing.T) {
	name := UniqueName(t)
	path := StoreFile(Recoverable, name)
	stop := make(chan struct{})
	var removers sync.WaitGroup
	removed := 0
	removers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			var in *engine.InUse
			switch err := unlinkUnused(name); {
			case err == nil:
				removed++
			case !errors.As(err, &in) && !errors.Is(err, fs.ErrNotExist):
				t.Error(err)
				return
			}
		}
	})
	var openers sync.WaitGroup
	for range 2 {
		openers.Go(func() {
			for range Times(300) {
				s, err := semaphore.Open(name, semaphore.WithEngine(Recoverable))
				if err != nil {
					t.Error(err)
					return
				}
				if err := keepsName(s, path); err != nil {
					t.Errorf("it is open, and its name was removed: %v", err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	openers.Wait()
	close(stop)
	removers.Wait()
	switch err := unlinkUnused(name); {
	case err == nil:
		removed++
	case !errors.Is(err, fs.ErrNotExist):
		t.Error(err)
	}
	if removed == 0 {
		t.Error("nothing was ever removed")
	}
}

// keepsName looks twice at the name of a semaphore that is open.
func keepsName(s *semaphore.Semaphore, path string) error {
	before, err := store.OpenRegular(path)
	if err != nil {
		return err
	}
	defer before.Close()
	if err := s.Wait(); err != nil {
		return err
	}
	now, err := store.OpenRegular(path)
	if err != nil {
		return err
	}
	defer now.Close()
	if same, err := store.Same(before, now); err != nil || !same {
		return fmt.Errorf("the same file: %v, %v", same, err)
	}
	return nil
}

// What is no recoverable semaphore stays.
func TestUnlinkUnusedOfWhatIsDamaged(t *testing.T) {
	name := UniqueName(t)
	Must(t, os.WriteFile(StoreFile(Recoverable, name), []byte("hello"), 0o600))
	WantErr(t, "a damaged one", unlinkUnused(name), semaphore.ErrCorrupt)
	if _, err := os.Stat(StoreFile(Recoverable, name)); err != nil {
		t.Error(err)
	}
}
