//go:build unix && !cgo

package semaphore

const cgoEnabled = false

var libcKind *kind
