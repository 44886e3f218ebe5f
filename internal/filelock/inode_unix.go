//go:build unix

package filelock

import (
	"os"
	"syscall"
)

// An Inode tells a file from all others that there are at the same time.
type Inode struct{ Dev, Ino uint64 }

// InodeOf returns the inode of an open file.
func InodeOf(f *os.File) (Inode, error) {
	info, err := f.Stat()
	if err != nil {
		return Inode{}, err
	}
	return InodeIn(info), nil
}

// InodeIn returns the inode of a file of which this is the information.
func InodeIn(info os.FileInfo) Inode {
	st := info.Sys().(*syscall.Stat_t)
	return Inode{uint64(st.Dev), uint64(st.Ino)}
}
