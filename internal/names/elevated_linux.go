package names

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// atSecure is AT_SECURE of getauxval(3): the kernel has given the program rights that whoever
// started it does not have, and libc's secure_getenv heeds it too.
const atSecure = 23

// elevated reports whether the program was started with more rights than its user has. What
// it does with its user ids afterwards does not matter.
var elevated = sync.OnceValue(func() bool {
	vector, err := unix.Auxv()
	if err != nil { // a library in a program that is not Go's
		return os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid()
	}
	for _, entry := range vector {
		if entry[0] == atSecure {
			return entry[1] != 0
		}
	}
	return false
})
