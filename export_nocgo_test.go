//go:build !(cgo && unix)

package semaphore

const LibcPolls = false
