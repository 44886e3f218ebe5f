//go:build !unix && !windows

package store

// Lock has nothing to lock: there is no engine on such a system.
func Lock() (unlock func(), err error) { return func() {}, nil }
