package semaphore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// publishUnnamed is publish through a file that has no name until it is
// whole, so that a kill leaves nothing behind. errors.ErrUnsupported where the
// filesystem has no such files or /proc is not mounted.
func publishUnnamed(dir, name string, fill func(*os.File) error, mode fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, mode)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		return nil, errors.ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	if err = fill(f); err == nil {
		fd := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
		err = unix.Linkat(unix.AT_FDCWD, fd, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
		if err == unix.ENOENT {
			err = errors.ErrUnsupported
		} else if err != nil {
			err = &os.PathError{Op: "link", Path: path, Err: err}
		}
	}
	defer f.Close()
	if err != nil {
		return nil, err
	}
	// The same description under its name, for errors.
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// networkTypes are the filesystems (statfs(2), linux/magic.h) whose files
// other machines share.
var networkTypes = map[uint32]string{
	unix.NFS_SUPER_MAGIC:  "NFS",
	unix.SMB_SUPER_MAGIC:  "SMB",
	unix.CIFS_SUPER_MAGIC: "CIFS",
	unix.SMB2_SUPER_MAGIC: "SMB2",
	unix.AFS_SUPER_MAGIC:  "AFS",
	unix.AFS_FS_MAGIC:     "AFS",
	unix.CODA_SUPER_MAGIC: "Coda",
	unix.NCP_SUPER_MAGIC:  "NCP",
	unix.CEPH_SUPER_MAGIC: "Ceph",
	unix.V9FS_MAGIC:       "9P",
	0x0BD00BD0:            "Lustre",
	0x47504653:            "GPFS",
	0x01161970:            "GFS2",
	0x7461636f:            "OCFS2",
	0x19830326:            "BeeGFS",
}

// networkFS names the network filesystem that dir is on, "" if it is local.
// FUSE (sshfs among others) does not tell and counts as local.
func networkFS(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return networkTypes[uint32(st.Type)], nil
}
