//go:build cgo && unix

package semaphore

// LibcPolls says that libc's waits are polled in this build.
var LibcPolls = libcPolls
