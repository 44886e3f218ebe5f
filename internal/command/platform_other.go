//go:build !unix && !windows

package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
)

// Systems that are neither Unix nor Windows have no semaphores, so this file only has
// to compile.

const canBecome = false

func become([]*semaphore.Semaphore, *exec.Cmd, *watcher) error { return errors.ErrUnsupported }

type leash struct{}

func newLeash() (leash, error) { return leash{}, nil }

func (leash) attach([]*semaphore.Semaphore) (release func(), err error) {
	return nil, fmt.Errorf("a lock cannot be left to another program on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func shellCommand(line string) *exec.Cmd { return exec.Command("sh", "-c", line) }

func programCommand(name string, args ...string) *exec.Cmd { return exec.Command(name, args...) }

func searchPath() []string { return filepath.SplitList(os.Getenv("PATH")) }

// interpreted is nil: the system itself knows how to run a script, or nothing does.
func interpreted(*exec.Cmd, error) *exec.Cmd { return nil }

var (
	endSignals   = []os.Signal{os.Interrupt}
	childSignals []os.Signal
)

func terminalSends(os.Signal) bool { return true }

func keepIgnored() {}

func inForeground() bool { return true }

func forward(p *os.Process, sig os.Signal) { _ = p.Signal(sig) }

func isShortage(error) bool { return false }

func umask() fs.FileMode { return 0 }

func withoutUmask() {}

const canSetOwner = false

func ownerOf(fs.FileInfo) engine.Owner { return engine.Owner{UID: -1, GID: -1} }

func statFile(path string) (fs.FileInfo, error) { return os.Stat(path) }
