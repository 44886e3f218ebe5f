//go:build unix && (aix || filelock_fcntl || mips || mipsle || (arm && !arm.7))

package semaphore_test

func withoutNews() (restore func()) { return func() {} }

func portable() (restore func()) { return func() {} }
