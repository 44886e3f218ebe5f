package store

import "golang.org/x/sys/unix"

// NetworkTypes are the filesystems (statfs(2), linux/magic.h) whose files
// other machines share.
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
}

// networkName names a network filesystem, "" if it is local. FUSE (sshfs among others) does
// not say what is behind it, and counts as local.
func networkName(st *unix.Statfs_t) string { return NetworkTypes[uint32(st.Type)] }
