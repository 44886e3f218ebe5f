//go:build linux

// Programs that use musl keep their semaphores in other files than those that use glibc:
// "x" in /dev/shm/x, and they do not check what is in the file.

package interop_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// A program that uses musl and ours each have a semaphore of their own under one name.
func TestBesideMusl(t *testing.T) {
	name := UniqueName(t)
	musl := StartActor(t, "musl C")
	musl.OK("create /%s 5", name)
	for _, e := range []semaphore.Engine{semaphore.EngineNative, semaphore.EngineFlock, semaphore.EngineRecoverable} {
		t.Run(e.String(), func(t *testing.T) {
			NeedEngine(t, e)
			if testhook.Libc.Musl {
				_, err := semaphore.Open(name, semaphore.WithEngine(e))
				WantErr(t, "Open in a build with musl", err, semaphore.ErrKindMismatch)
				return
			}
			_, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithCreate(false))
			WantErr(t, "Open", err, fs.ErrNotExist)
			s := Open(t, name, e, semaphore.WithValue(2), semaphore.WithExclusive(true))
			Must(t, s.TryWait())
			Becomes(t, s, 1)
			musl.Expect("ok 5", "value")
			Must(t, s.Unlink())
			musl.Expect("ok 5", "value")
		})
	}
	musl.OK("unlink")
}

// The names of our own files are also names of semaphores for musl. A semaphore that a
// program that uses musl has made under such a name is refused, and left as it is.
func TestMuslUnderOurFileName(t *testing.T) {
	engines := map[string]semaphore.Engine{"sem.": semaphore.EngineNative, "flk.": semaphore.EngineFlock, "rec.": semaphore.EngineRecoverable}
	for prefix, e := range engines {
		t.Run(e.String(), func(t *testing.T) {
			NeedEngine(t, e)
			t.Setenv("SEMAPHORE_DIR", "/dev/shm")
			name := UniqueName(t)
			musl := StartActor(t, "musl C")
			musl.OK("create /%s%s 5", prefix, name)
			for _, opts := range [][]semaphore.Option{nil, {semaphore.WithCreate(false)}} {
				_, err := semaphore.Open(name, append(opts, semaphore.WithEngine(e))...)
				WantErr(t, "Open", err, semaphore.ErrCorrupt)
			}
			for _, other := range engines {
				if other != e && HasEngine(other) {
					_, err := semaphore.Open(name, semaphore.WithEngine(other))
					WantErr(t, fmt.Sprint("Open by engine ", other), err, semaphore.ErrKindMismatch)
				}
			}
			musl.Expect("ok 5", "value")
			musl.OK("unlink")

			if !testhook.Libc.Musl {
				return
			}
			// And the other way round: our file is refused as a semaphore of our
			// libc. (musl itself would map it.)
			Open(t, name, e)
			path := StoreFile(e, name)
			before, err := os.ReadFile(path)
			Must(t, err)
			_, err = semaphore.Open(filepath.Base(path), semaphore.WithEngine(semaphore.EngineLibc))
			WantErr(t, "Open of "+path+" by libc", err, semaphore.ErrCorrupt)
			if after, err := os.ReadFile(path); string(after) != string(before) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}
