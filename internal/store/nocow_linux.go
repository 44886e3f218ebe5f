package store

import (
	"os"

	"golang.org/x/sys/unix"
)

const nocow = 0x00800000 // FS_NOCOW_FL (linux/fs.h)

// writeInPlace asks btrfs to write a new file in place; it has to be empty. Else each change
// of a part that is on the disk needs new space there, and on a full filesystem a store
// to the file's memory is a SIGBUS. It is an attempt: where it is refused, the file is as good
// as on other filesystems that copy.
func writeInPlace(f *os.File) {
	var st unix.Statfs_t
	fd := int(f.Fd())
	if err := unix.Fstatfs(fd, &st); err != nil || uint32(st.Type) != unix.BTRFS_SUPER_MAGIC {
		return
	}
	if flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err == nil {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags|nocow))
	}
}
