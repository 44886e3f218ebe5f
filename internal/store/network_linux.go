package store

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// NetworkTypes are the filesystems (statfs(2), linux/magic.h) whose files
// other machines share, or other mounts that don't see their locks.
var NetworkTypes = map[uint32]string{
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

	// A filesystem that a process serves (sshfs, bindfs, virtiofs) does not say what is
	// behind it. The kernel keeps the locks and the memory of a mount for itself: neither
	// another mount of the same directory nor the directory itself sees them.
	unix.FUSE_SUPER_MAGIC: "FUSE",
}

// networkName names such a filesystem, "" if it is local.
func networkName(st *unix.Statfs_t) string { return NetworkTypes[uint32(st.Type)] }

func init() { filesystemOf = mountOf }

// mountOf names the filesystem that dir is on, and where it is mounted (proc(5), mountinfo).
func mountOf(dir string) string {
	name := "a filesystem"
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return name
	}
	defer mounts.Close()
	longest := 0
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		if len(mount) < 5 || len(kind) < 1 {
			continue
		}
		at := mount[4]
		// Of two at the same place the later one is on top.
		if inside := at == "/" || dir == at || strings.HasPrefix(dir, at+"/"); inside && len(at) >= longest {
			longest = len(at)
			name = fmt.Sprintf("the filesystem %s at %s", kind[0], at)
		}
	}
	return name
}
