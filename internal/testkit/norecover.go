//go:build unix && (aix || filelock_fcntl || mips || mipsle || (arm && !arm.7))

package testkit

// WithoutReports does nothing, as there is no recoverable engine.
func WithoutReports() (restore func()) { return func() {} }

// Portable does nothing, as there is no recoverable engine.
func Portable() (restore func()) { return func() {} }
