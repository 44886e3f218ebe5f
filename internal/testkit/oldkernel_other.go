//go:build !linux

package testkit

// OldKernel does nothing: other systems have neither.
func OldKernel() {}
