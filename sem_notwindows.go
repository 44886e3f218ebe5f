//go:build !windows

package semaphore

var windowsKind *kind
