package command

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/names"
)

// A nameWatch looks whether a semaphore's file still has its name. If the name is removed
// (by rm, a cleaner of /tmp, or systemd at the end of a session) its users go on with it,
// but the next ones get another semaphore, and the limit is doubled.
type nameWatch struct {
	path  string
	first fs.FileInfo // nil: the name was gone when the watch began
}

// watchName watches s for as long as the process of run has it: it warns within a second
// of the removal, and once more at the end, when what the limit was for is to be judged. That is no notice, but a failure of
// the limit: it is said with -q, too.
func (inv *invocation) watchName(s *semaphore.Semaphore) (end func()) {
	path := fileOf(s)
	if path == "" {
		return func() {}
	}
	w := nameWatch{path: path}
	var err error
	if w.first, err = statFile(path); err != nil && (kindOf(s) == kindPOSIX || !errors.Is(err, fs.ErrNotExist)) {
		return func() {} // the file is another libc's, or cannot be seen
	}
	stop, stopped, to := make(chan struct{}), make(chan struct{}), inv.notices
	if inv.quiet {
		to = inv.stderr
	}
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			if w.removed() {
				complain(to, "%s was removed (%s): from now on others get another semaphore of that name, beside this one", printable(s.Name()), path)
				return
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
		if w.removed() {
			complain(to, "%s had been removed before procsem ended: more than its limit may have run at a time", printable(s.Name()))
		}
	}
}

// removed reports whether the name is gone or that of another file. As procsem has the
// first one open, no other file can have got its number.
func (w nameWatch) removed() bool {
	now, err := statFile(w.path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	return w.first == nil || !os.SameFile(w.first, now)
}

// fileOf returns the path of a semaphore's file, "" where it has none that is known.
func fileOf(s *semaphore.Semaphore) string {
	if s.Engine() == semaphore.EngineDriver {
		return ""
	}
	prefix := names.Recoverable
	switch kindOf(s) {
	case kindFlock:
		prefix = names.Flock
	case kindPOSIX:
		if runtime.GOOS != "linux" {
			return ""
		}
		return filepath.Join(names.GlibcDir, names.FileName(names.Glibc, s.Name()))
	}
	dir, err := storeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, names.FileName(prefix, s.Name()))
}
