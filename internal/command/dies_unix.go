//go:build unix && !linux

package command

import "syscall"

type family struct{}

func newFamily() family { return family{} }

func dyingWithUs() *syscall.SysProcAttr { return nil }
