//go:build !unix

package semaphore

var libcKind, flockKind *kind

const cgoEnabled = false

func lockStores() (func(), error) { return func() {}, nil }
