//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

// Files of older versions of the package.

package recoverable_test

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
	. "github.com/procsem/semaphore/internal/testkit"
)

// eachOlder runs f for each older version of the file's format.
func eachOlder(t *testing.T, f func(t *testing.T, version int)) {
	EachVariant(t, func(t *testing.T) {
		for version := 1; version < permits.Version; version++ {
			t.Run(fmt.Sprint("version ", version), func(t *testing.T) { f(t, version) })
		}
	})
}

// theEngine returns the recoverable engine's row.
func theEngine(t *testing.T) *engine.Engine {
	for _, e := range engine.Registered() {
		if e.Name == Recoverable.String() {
			return e
		}
	}
	t.Fatal("not registered")
	return nil
}

// A file of an older version that nobody has open is replaced; the limit is what it would be
// if the file were of this version.
func TestIdleFileOfAnOlderVersion(t *testing.T) {
	for what, tt := range map[string]struct {
		limit int
		opts  []semaphore.Option
		want  int
	}{
		"Open":                                {3, nil, 3},
		"Open with a limit":                   {3, []semaphore.Option{semaphore.WithValue(5)}, 5},
		"Open of what exists":                 {3, []semaphore.Option{semaphore.WithCreate(false)}, 3},
		"after SetLimit":                      {2 | LimitSet, []semaphore.Option{semaphore.WithValue(5)}, 2},
		"after SetLimit, Open of what exists": {2 | LimitSet, []semaphore.Option{semaphore.WithCreate(false)}, 2},
		"after SetLimit to 0":                 {0 | LimitSet, nil, 0},
		"a large limit":                       {60000, nil, 60000},
	} {
		t.Run(what, func(t *testing.T) {
			eachOlder(t, func(t *testing.T, version int) {
				name := UniqueName(t)
				old := MakeOlder(t, name, version, tt.limit, 0o600)
				unopened, err := store.OpenRegular(old.Path) // by a program of the older version
				Must(t, err)
				defer unopened.Close()
				s := Open(t, name, Recoverable, tt.opts...)
				if v := VersionOf(t, name); v != permits.Version {
					t.Errorf("version %d, want %d", v, permits.Version)
				}
				if gone, err := store.NameGone(unopened, old.Path); err != nil || !gone {
					t.Errorf("the old file has its name still (%v)", err)
				}
				if n, err := s.Limit(); n != tt.want || err != nil {
					t.Errorf("limit %d (%v), want %d", n, err, tt.want)
				}
				Becomes(t, s, tt.want)
				for range min(tt.want, 5) {
					Must(t, s.TryWait())
				}
				if _, err := os.Stat(old.LockFile); old.LockFile != "" && err == nil {
					t.Errorf("%s is left", old.LockFile)
				}
				// A limit that an operator has set outlives the handles, as before.
				Must(t, s.Close())
				s = Open(t, name, Recoverable, semaphore.WithValue(7))
				want := 7
				if tt.limit&LimitSet != 0 {
					want = tt.want
				}
				if n, err := s.Limit(); n != want || err != nil {
					t.Errorf("limit %d (%v) in the next life, want %d", n, err, want)
				}
			})
		})
	}
}

// With a file of an older version that is in use nothing can be done but to say so.
func TestFileOfAnOlderVersionInUse(t *testing.T) {
	for what, claim := range map[string]bool{"a slot": false, "the claim": true} {
		t.Run(what, func(t *testing.T) {
			eachOlder(t, func(t *testing.T, version int) {
				name := UniqueName(t)
				old := MakeOlder(t, name, version, 3, 0o600)
				release := old.Hold(t, claim)
				for what, err := range map[string]error{
					"Open":                func() error { _, err := semaphore.Open(name, semaphore.WithRecovery(true)); return err }(),
					"Open of what exists": openExisting(name),
					"SetLimit":            theEngine(t).SetLimit(name, 4, &engine.Options{}),
				} {
					wantInUse(t, what, err, old.Path, version)
				}
				if !claim {
					_, err := theEngine(t).Observe("", name)
					wantInUse(t, "Observe", err, old.Path, version)
				}
				old.Unchanged(t, "in use")
				release()
				Must(t, openExisting(name))
			})
		})
	}
}

func openExisting(name string) error {
	s, err := semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithCreate(false))
	if err == nil {
		err = s.Close()
	}
	return err
}

func wantInUse(t *testing.T, what string, err error, path string, version int) {
	t.Helper()
	WantErr(t, what, err, semaphore.ErrCorrupt)
	for _, want := range []string{"another version of this package has it open", path, fmt.Sprint("of version ", version), fmt.Sprint("of version ", permits.Version)} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v: does not say %q", what, err, want)
		}
	}
}

// To look replaces nothing, nor does what fails in any case.
func TestLookingAtAnOlderVersion(t *testing.T) {
	eachOlder(t, func(t *testing.T, version int) {
		name := UniqueName(t)
		old := MakeOlder(t, name, version, 3, 0o600)
		_, err := theEngine(t).Observe("", name)
		WantErr(t, "Observe", err, semaphore.ErrCorrupt)
		for _, want := range []string{old.Path, fmt.Sprint("of version ", version), "Nobody has it open", "will be replaced"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v: does not say %q", err, want)
			}
		}
		_, err = semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithExclusive(true))
		WantErr(t, "Open of a new one", err, fs.ErrExist)
		_, err = semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithValue(-1))
		WantErr(t, "Open with a limit of -1", err, semaphore.ErrInvalidValue)
		old.Unchanged(t, "looked at")

		Must(t, theEngine(t).SetLimit(name, 9, &engine.Options{}))
		s := Open(t, name, Recoverable, semaphore.WithValue(2))
		if n, err := s.Limit(); n != 9 || err != nil {
			t.Errorf("limit %d (%v), want 9, which was set", n, err)
		}
	})
}

// What has a directory of its own (WithDir) is replaced there.
func TestOlderVersionInADirectory(t *testing.T) {
	eachOlder(t, func(t *testing.T, version int) {
		dir, usual := TempDir(t), TempDir(t)
		for what, use := range map[string]func(name string) error{
			"Open": func(name string) error {
				s, err := semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithDir(dir), semaphore.WithCreate(false))
				if err == nil {
					err = s.Close()
				}
				return err
			},
			"SetLimit": func(name string) error { return theEngine(t).SetLimit(name, 3, &engine.Options{Dir: dir}) },
		} {
			t.Setenv("SEMAPHORE_DIR", dir) // where it is made
			name := strings.ToLower(what)
			MakeOlder(t, name, version, 3, 0o600)
			t.Setenv("SEMAPHORE_DIR", usual)
			_, err := theEngine(t).Observe(dir, name)
			WantErr(t, "Observe", err, semaphore.ErrCorrupt)
			Must(t, use(name))
			seen, err := theEngine(t).Observe(dir, name)
			if err != nil || seen.Limit != 3 {
				t.Errorf("after %s: limit %d, %v; want 3", what, seen.Limit, err)
			}
		}
		if made, err := os.ReadDir(usual); len(made) > 0 || err != nil {
			t.Errorf("in the usual directory: %v, %v", made, err)
		}
	})
}

// A file of an older version that is damaged, or another semaphore's, is not replaced.
func TestDamagedFileOfAnOlderVersion(t *testing.T) {
	eachOlder(t, func(t *testing.T, version int) {
		for what, tt := range map[string]struct {
			damage func(f *os.File) error
			says   string
		}{
			"another size": {func(f *os.File) error { return f.Truncate(permits.Size) }, "790528"},
			"limit": {func(f *os.File) error {
				_, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, 9999), 64)
				return err
			}, "damaged"},
			"another name": {func(f *os.File) error { _, err := f.WriteAt([]byte{'#'}, 320); return err }, "by another name"},
		} {
			if version == 1 && what == "another name" {
				continue // it says none
			}
			t.Run(what, func(t *testing.T) {
				name := UniqueName(t)
				old := MakeOlder(t, name, version, 3, 0o600)
				f, err := os.OpenFile(old.Path, os.O_RDWR, 0)
				Must(t, err)
				defer f.Close()
				Must(t, tt.damage(f))
				old.Content, err = os.ReadFile(old.Path)
				Must(t, err)
				_, err = semaphore.Open(name, semaphore.WithRecovery(true))
				WantErr(t, what, err, semaphore.ErrCorrupt)
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v: does not say %q", err, tt.says)
				}
				old.Unchanged(t, what)
			})
		}
	})
}

// mayVanish: while a file is replaced there may be none for a moment (store.Replace).
const mayVanish = runtime.GOOS == "windows"

// However many find the file at once, it is replaced once: they all get one semaphore.
func TestReplacedByOneOfMany(t *testing.T) {
	eachOlder(t, func(t *testing.T, version int) {
		dir := TempDir(t)
		t.Setenv("SEMAPHORE_DIR", dir)
		for range 10 {
			name := UniqueName(t)
			MakeOlder(t, name, version, 2, 0o600)
			handles := make([]*semaphore.Semaphore, 8)
			var all sync.WaitGroup
			for i := range handles {
				all.Go(func() {
					var err error
					handles[i], err = semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithCreate(i%2 == 0 || mayVanish))
					if err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if t.Failed() {
				return
			}
			taken := 0
			for _, s := range handles {
				if s.TryWait() == nil {
					taken++
				}
			}
			if taken != 2 {
				t.Errorf("%d handles have a permit, of 2", taken)
			}
			for _, s := range handles {
				Must(t, s.Close())
			}
			Must(t, semaphore.Unlink(name))
		}
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		Must(t, err)
		for _, path := range left {
			// On Windows a file that was removed while it was in use stays under such a name until the
			// next one is made.
			if !mayVanish || !strings.Contains(path, ".gone.") {
				t.Errorf("left behind: %s", path)
			}
		}
	})
}
