//go:build unix

// Two kinds of one name.

package interop_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

func TestTwoKindsOfOneName(t *testing.T) {
	l, n, f, r := semaphore.EngineLibc, semaphore.EngineNative, semaphore.EngineFlock, semaphore.EngineRecoverable
	pairs := [][2]semaphore.Engine{{l, f}, {f, l}, {n, f}, {f, n}, {l, r}, {r, l}, {n, r}, {r, n}, {f, r}, {r, f}}
	if HasEngine(l) && HasEngine(n) && !testhook.Libc.Glibc {
		pairs = append(pairs, [2]semaphore.Engine{l, n}, [2]semaphore.Engine{n, l})
	}
	for _, kinds := range pairs {
		e, other := kinds[0], kinds[1]
		t.Run(fmt.Sprint(e, " first, then ", other), func(t *testing.T) {
			NeedEngine(t, other)
			if e == r {
				NeedEngine(t, r) // makeKind needs the engine for a recoverable one
			}
			name := UniqueName(t)
			makeKind(t, e, name)
			for what, opts := range map[string][]semaphore.Option{
				"Open":           nil,
				"without create": {semaphore.WithCreate(false)},
				"exclusive":      {semaphore.WithExclusive(true)},
			} {
				_, err := semaphore.Open(name, append(opts, semaphore.WithEngine(other))...)
				WantErr(t, what, err, semaphore.ErrKindMismatch)
				if err == nil || e == f && !strings.Contains(err.Error(), "by engine flock") {
					t.Errorf("%s: %v: does not name the kind that exists", what, err)
				}
			}
			WantErr(t, "Unlink of the other kind", semaphore.Unlink(name, semaphore.WithEngine(other)), fs.ErrNotExist)
			Must(t, semaphore.Unlink(name)) // whichever kind exists
			s := Open(t, name, other)
			// Now the other kind comes second, from a program that does not check.
			makeKind(t, e, name+".x")
			Must(t, os.Rename(StoreFile(e, name+".x"), StoreFile(e, name)))
			_, err := semaphore.Open(name, semaphore.WithEngine(other))
			WantErr(t, "Open while both exist", err, semaphore.ErrKindMismatch)
			Must(t, s.Unlink())
			Must(t, semaphore.Unlink(name))
			WantErr(t, "Unlink when both are gone", semaphore.Unlink(name), fs.ErrNotExist)
		})
	}
}

// makeKind makes a semaphore of kind e, without e's engine if the build does not have
// it.
func makeKind(t *testing.T, e semaphore.Engine, name string) {
	t.Helper()
	NeedFile(t, e)
	path := StoreFile(e, name)
	if HasEngine(e) {
		s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithExclusive(true))
		Must(t, err)
		Must(t, s.Close())
		return
	}
	Must(t, os.WriteFile(path, make([]byte, 32), 0o600))
}

// In a directory (WithDir) a name is of one kind; what has the name in other directories, or
// is in none, is another semaphore.
func TestKindsInADirectory(t *testing.T) {
	f, r := semaphore.EngineFlock, semaphore.EngineRecoverable
	if !HasEngine(r) {
		return // there is one kind
	}
	for _, kinds := range [][2]semaphore.Engine{{f, r}, {r, f}} {
		e, other := kinds[0], kinds[1]
		dir, another := t.TempDir(), t.TempDir()
		in := semaphore.WithDir(dir)
		name := UniqueName(t)
		usual, err := semaphore.Open(name, semaphore.WithExclusive(true)) // of whichever kind
		Must(t, err)
		defer usual.Close()
		first := Open(t, name, e, in)
		for what, opts := range map[string][]semaphore.Option{
			"Open":           nil,
			"without create": {semaphore.WithCreate(false)},
			"exclusive":      {semaphore.WithExclusive(true)},
		} {
			_, err := semaphore.Open(name, append(opts, in, semaphore.WithEngine(other))...)
			WantErr(t, what, err, semaphore.ErrKindMismatch)
			remedy := map[semaphore.Engine]string{f: "WithEngine(EngineFlock)", r: "OpenLimit"}[e]
			if err == nil || !strings.Contains(err.Error(), "by engine "+e.String()) || !strings.Contains(err.Error(), remedy) {
				t.Errorf("%s: %v: does not name the kind that exists, or what opens it: %s", what, err, remedy)
			}
		}
		Open(t, name, other, semaphore.WithDir(another))
		WantErr(t, "Unlink of the other kind", semaphore.Unlink(name, in, semaphore.WithEngine(other)), fs.ErrNotExist)
		Must(t, semaphore.Unlink(name, in)) // whichever kind exists
		Open(t, name, other, in)
		WantErr(t, "the first handle's Unlink", first.Unlink(), fs.ErrNotExist)
		Must(t, semaphore.Unlink(name, in))
		WantErr(t, "Unlink of what is gone", semaphore.Unlink(name, in), fs.ErrNotExist)
		Must(t, semaphore.Unlink(name, semaphore.WithDir(another)))
		Must(t, usual.Unlink())
	}
}

func TestLibcRefusesWhatIsNoSemaphore(t *testing.T) {
	NeedEngine(t, semaphore.EngineLibc)
	NeedFile(t, semaphore.EngineLibc)
	for what, size := range map[string]int{"empty": 0, "another word size": 16, "too long": 33} {
		name := UniqueName(t)
		path := StoreFile(semaphore.EngineLibc, name)
		Must(t, os.WriteFile(path, make([]byte, size), 0o600))
		_, err := semaphore.Open(name, semaphore.WithEngine(semaphore.EngineLibc))
		WantErr(t, what, err, semaphore.ErrCorrupt)
		_, err = semaphore.Open(name, semaphore.WithEngine(semaphore.EngineLibc), semaphore.WithExclusive(true))
		WantErr(t, what+", exclusive", err, fs.ErrExist)
	}
	name := UniqueName(t)
	Must(t, unix.Mkfifo(StoreFile(semaphore.EngineLibc, name), 0o600))
	_, err := semaphore.Open(name, semaphore.WithEngine(semaphore.EngineLibc))
	WantErr(t, "fifo", err, semaphore.ErrCorrupt)
}

// Programs that race to create two kinds of one name: all that succeed have
// made or opened the same kind.
func TestRacedCreationOfTwoKinds(t *testing.T) {
	UseHelper("create")
	dir, err := os.Open(filepath.Dir(StoreFile(semaphore.EngineFlock, "x")))
	Must(t, err)
	defer dir.Close()
	for locked := false; !locked; { // another process may have it at the moment
		if locked, err = filelock.TryLock(dir); err != nil {
			t.Skipf("not on this system: the lock of a directory (%v)", err)
		}
	}
	Must(t, filelock.Unlock(dir))
	for _, e := range []semaphore.Engine{semaphore.EngineLibc, semaphore.EngineNative} {
		t.Run(e.String(), func(t *testing.T) { racedKinds(t, e, semaphore.EngineFlock) })
		t.Run(e.String()+" recoverable", func(t *testing.T) { racedKinds(t, e, semaphore.EngineRecoverable) })
	}
	if HasEngine(semaphore.EngineRecoverable) {
		t.Run("in a directory", func(t *testing.T) {
			racedKinds(t, semaphore.EngineFlock, semaphore.EngineRecoverable, t.TempDir())
		})
	}
}

func racedKinds(t *testing.T, l, f semaphore.Engine, dir ...string) {
	NeedEngine(t, l)
	NeedEngine(t, f)
	for range Times(15) {
		got := Race(t, UniqueName(t), false, []semaphore.Engine{l, f, l, f, l, f, l, f}, dir...)
		if got["won"] != 4 || got["mismatch"] != 4 || got[l.String()] != 0 && got[f.String()] != 0 {
			t.Errorf("got %v, want four winners of one kind", got)
		}
	}
}
