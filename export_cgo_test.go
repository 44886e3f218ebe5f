//go:build cgo && unix

package semaphore

// LibcPolls says that libc's waits are polled in this build.
var LibcPolls = libcPolls

// LibcCalls counts the calls of libc's waits and posts.
var LibcCalls = libcCalls
