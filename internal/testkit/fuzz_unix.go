//go:build unix

package testkit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
)

// RemoveAfterWorkers removes, when the fuzzing has ended, the semaphores of workers that have not: Go kills a
// worker that needs two seconds for its last input.
func RemoveAfterWorkers(f *testing.F, e semaphore.Engine) {
	f.Cleanup(func() {
		files, err := filepath.Glob(StoreFile(e, strings.Replace(namePrefix, "%d", "*", 1)) + "*")
		Must(f, err)
		for _, file := range files {
			_, name, _ := strings.Cut(filepath.Base(file), ".")
			var pid int
			var stat unix.Stat_t // another user's run may be beside ours
			if unix.Stat(file, &stat) != nil || int(stat.Uid) != os.Geteuid() {
				continue
			}
			if n, _ := fmt.Sscanf(name, namePrefix, &pid); n == 1 && unix.Kill(pid, 0) == unix.ESRCH {
				unlinkIfThere(f, name)
			}
		}
	})
}

// FuzzOpen fuzzes the content of an engine's file, for engines whose permits have no
// owners: it is refused and left as it is, or works as a semaphore.
func FuzzOpen(f *testing.F, e semaphore.Engine) {
	RemoveAfterWorkers(f, e)
	name := UniqueName(f)
	path := StoreFile(e, name)
	f.Fuzz(func(t *testing.T, content []byte) {
		if e == semaphore.EngineFlock {
			content = append(slices.Clip(content), name...) // nothing but refused otherwise
		}
		Must(t, os.WriteFile(path, content, 0o600))
		defer os.Remove(path)
		unchanged := func() {
			if now, _ := os.ReadFile(path); !bytes.Equal(now, content) {
				t.Errorf("the file was changed: % x", now)
			}
		}
		s, err := semaphore.Open(name, semaphore.WithEngine(e))
		if err != nil {
			WantErr(t, "Open", err, semaphore.ErrCorrupt)
			unchanged()
			return
		}
		defer s.Close()
		before, err := s.Value()
		Must(t, err)
		if err := s.TryWait(); err == nil {
			Must(t, s.Post())
		} else {
			WantErr(t, "TryWait", err, semaphore.ErrWouldBlock)
			WantErr(t, "WaitTimeout", s.WaitTimeout(time.Microsecond), semaphore.ErrTimeout)
		}
		if after, _ := s.Value(); after != before {
			t.Errorf("value %d, was %d", after, before)
		}
		if e == semaphore.EngineFlock { // EngineNative counts waiters in the file
			unchanged()
		}
	})
}
