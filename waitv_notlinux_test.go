//go:build unix && !linux

package semaphore_test

func withoutWaitv() (restore func()) { return func() {} }
