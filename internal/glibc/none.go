//go:build !linux

package glibc

import (
	"io/fs"
	"os"
	"time"
	"unsafe"

	"github.com/procsem/semaphore/internal/engine"
)

// Size is that of no semaphore here: glibc's are on Linux only, and nothing of this
// file is ever called.
const Size = 0

// Store names where glibc's semaphores are.
const Store = "glibc"

// Words are nowhere but on Linux.
type Words struct{}

func (*Words) Take() bool     { return false }
func (*Words) Give() bool     { return false }
func (*Words) Post(int) error { return engine.ErrUnsupported }
func (*Words) Value() uint32  { return 0 }

// Semaphore is a backend of no engine.
type Semaphore struct{ engine.Backend }

func (*Semaphore) Words() *Words { return nil }

// Path is the file of a name where there are such files.
func Path(string) string { return "" }

// CheckFile, CheckSize, New and Probe are for builds with glibc.
func CheckFile(*os.File, fs.FileInfo) error { return engine.ErrUnsupported }
func CheckSize(string, int64) error         { return engine.ErrUnsupported }
func New(any, func() (unsafe.Pointer, func(), error), *engine.Options) (*Semaphore, error) {
	return nil, engine.ErrUnsupported
}
func Probe(unsafe.Pointer, Probed) bool { return false }

// Probed is a libc's operations.
type Probed struct {
	TryWait, Post func() bool
	Wait          func(time.Duration) bool
}
