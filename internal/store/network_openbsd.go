package semaphore

import "golang.org/x/sys/unix"

func statfsFlags(st *unix.Statfs_t) uint64 { return uint64(st.F_flags) }
