//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable_test

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	. "github.com/procsem/semaphore/internal/testkit"
)

// The group's bits in the mode of a file with an access list are the list's mask. The group's
// rights do not grow to that in the new file.
func TestOlderVersionKeepsItsAccessList(t *testing.T) {
	// acl(5): version 2; then tag, rights, id: the owner, user 12345, the group, the mask, others.
	var list []byte
	for _, entry := range [][2]any{{uint32(2), nil},
		{[]uint16{0x01, 6}, ^uint32(0)}, {[]uint16{0x02, 6}, uint32(12345)}, {[]uint16{0x04, 0}, ^uint32(0)},
		{[]uint16{0x10, 6}, ^uint32(0)}, {[]uint16{0x20, 0}, ^uint32(0)}} {
		for _, part := range entry {
			if part != nil {
				var err error
				list, err = binary.Append(list, binary.LittleEndian, part)
				Must(t, err)
			}
		}
	}
	const name = "system.posix_acl_access"
	eachOlder(t, func(t *testing.T, version int) {
		sem := UniqueName(t)
		old := MakeOlder(t, sem, version, 3, 0o600)
		if err := unix.Setxattr(old.Path, name, list, 0); errors.Is(err, errors.ErrUnsupported) {
			t.Skipf("not on this system: access lists in %s", old.Path)
		} else {
			Must(t, err)
		}
		Must(t, openExisting(sem))
		got := make([]byte, 1024)
		n, err := unix.Getxattr(old.Path, name, got)
		if err != nil || string(got[:n]) != string(list) {
			t.Errorf("list % x (%v), want % x", got[:max(n, 0)], err, list)
		}
		if info, err := os.Stat(old.Path); err != nil || info.Mode() != 0o660 {
			t.Errorf("mode %v (%v), want 0660", info.Mode(), err)
		}
	})
}
