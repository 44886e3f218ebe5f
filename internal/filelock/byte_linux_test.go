package filelock

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Only what a kernel or filesystem without such locks says means that there are none.
func TestErrorsOfByteLocks(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for errno, unsupported := range map[unix.Errno]bool{
		unix.EINVAL: true, unix.EOPNOTSUPP: true, unix.ENOLCK: false, unix.EIO: false, unix.EBADF: false,
	} {
		err := wrap(f, errno)
		if !errors.Is(err, errno) || errors.Is(err, errors.ErrUnsupported) != unsupported {
			t.Errorf("%v: %v; means that there are no such locks: want %v", errno, err, unsupported)
		}
	}
}
