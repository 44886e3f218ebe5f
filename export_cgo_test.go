//go:build cgo && unix

package semaphore

// LibcPolls says that libc's waits are polled in this build.
var LibcPolls = libcPolls

// LibcIsGlibc says that the libc of this build is glibc.
const LibcIsGlibc = isGlibc

// LibcIsMusl says that it is musl.
const LibcIsMusl = isMusl

// LibcPath is libc's file of a name, "" if we don't know it.
func LibcPath(name string) string {
	if libcPath == nil {
		return ""
	}
	return libcPath(name)
}

// LibcCalls counts the calls of libc's waits and posts.
var LibcCalls = libcCalls
