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
}

func racedKinds(t *testing.T, l, f semaphore.Engine) {
	NeedEngine(t, l)
	NeedEngine(t, f)
	for range Times(15) {
		got := Race(t, UniqueName(t), false, []semaphore.Engine{l, f, l, f, l, f, l, f})
		if got["won"] != 4 || got["mismatch"] != 4 || got[l.String()] != 0 && got[f.String()] != 0 {
			t.Errorf("got %v, want four winners of one kind", got)
		}
	}
}
