//go:build !linux

package oldkernel

// Pretend does nothing: other systems have neither.
func Pretend() {}
