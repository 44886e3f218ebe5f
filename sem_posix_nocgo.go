//go:build unix && !cgo

package semaphore

var libcKind *kind
