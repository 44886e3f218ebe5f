//go:build unix

// The lock under which semaphores are created.

package store_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/store"
	. "github.com/procsem/semaphore/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(Main(m, Helpers{"create-at": createAt})) }

// What an engine finds out slowly, it finds out before it has the lock that all who create need.
func TestPrepareHoldsNoLock(t *testing.T) {
	for _, eng := range engine.Registered() {
		prepare := eng.Prepare
		if prepare == nil {
			continue
		}
		prepared := 0
		eng.Prepare = func() {
			unlock, err := store.Lock("")
			Must(t, err)
			unlock()
			prepared++
			prepare()
		}
		defer func() { eng.Prepare = prepare }()
		for i, exclusive := range []bool{true, false} {
			Open(t, UniqueName(t), EngineOf(eng.Name), semaphore.WithExclusive(exclusive))
			if prepared != i+1 {
				t.Errorf("%s: prepared %d times, want %d", eng.Name, prepared, i+1)
			}
		}
	}
}

// A creator that cannot get the lock says which lock it is.
func TestCreationLockHeldByAnother(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SEMAPHORE_DIR", dir)
	f, err := os.Open(dir)
	Must(t, err)
	defer f.Close()
	if locked, err := filelock.TryLock(f); !locked {
		t.Skipf("not on this system: the lock of a directory (%v)", err)
	}
	old := store.Patience
	store.Patience = time.Millisecond
	defer func() { store.Patience = old }()
	_, err = semaphore.Open("x", semaphore.WithEngine(semaphore.EngineFlock))
	if err == nil || !strings.Contains(err.Error(), "lock of "+dir) {
		t.Errorf("got %v, want it to name the directory's lock", err)
	}
	// It is the lock of that directory alone, by whatever way the directory was chosen.
	t.Setenv("SEMAPHORE_DIR", t.TempDir())
	_, err = semaphore.Open("x", semaphore.WithEngine(semaphore.EngineFlock), semaphore.WithDir(dir))
	if err == nil || !strings.Contains(err.Error(), "lock of "+dir) {
		t.Errorf("WithDir: got %v, want it to name the directory's lock", err)
	}
	elsewhere, err := semaphore.Open("x", semaphore.WithEngine(semaphore.EngineFlock), semaphore.WithDir(t.TempDir()))
	Must(t, err)
	Must(t, elsewhere.Close())
	t.Setenv("SEMAPHORE_DIR", dir)
	Must(t, filelock.Unlock(f))
	s, err := semaphore.Open("x", semaphore.WithEngine(semaphore.EngineFlock))
	Must(t, err)
	Must(t, s.Close())
	Must(t, s.Unlink())
}
