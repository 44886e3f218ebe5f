//go:build !cgo

package semaphore

const cgoEnabled = false
