//go:build unix && !linux

package semaphore_test

func withoutWaitv() (restore func()) { return func() {} }

func emulated() bool { return false }

func kernelTells() bool { return false }

func paths() string { return "no futexes, no OFD locks" }
