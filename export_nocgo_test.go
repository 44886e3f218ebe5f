//go:build unix && !cgo

package semaphore

const LibcPolls = false
