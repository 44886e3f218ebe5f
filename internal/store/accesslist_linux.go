package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const accessList = "system.posix_acl_access" // acl(5)

// copyAccessList gives a file the access list of another one, or none. A file with a list has
// the list's mask in the place of its group's rights: as the mode of a file without a list these
// would be the group's.
func copyAccessList(from, to *os.File) error {
	list := make([]byte, 1<<16) // XATTR_SIZE_MAX
	n, err := unix.Fgetxattr(int(from.Fd()), accessList, list)
	switch {
	case err == nil:
		err = unix.Fsetxattr(int(to.Fd()), accessList, list[:n], 0)
	case err == unix.ENODATA:
		err = unix.Fremovexattr(int(to.Fd()), accessList) // that the directory gives new files
	}
	if err == unix.ENODATA || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return os.NewSyscallError("the access list of "+to.Name(), err)
}
