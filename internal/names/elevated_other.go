//go:build !linux && !darwin && !dragonfly && !freebsd && !netbsd && !openbsd

package names

import (
	"os"
	"sync"
)

// elevated reports whether the program was started with more rights than its user has, as
// its ids show at the first call. On Windows all are -1: no program there is.
var elevated = sync.OnceValue(func() bool {
	return os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid()
})
