//go:build !unix

package main

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"

	"github.com/procsem/semaphore"
)

var errNoInheritance = fmt.Errorf("a lock cannot be left to another program on %s: %w", runtime.GOOS, errors.ErrUnsupported)

func inheritLock(*semaphore.Semaphore) (done func(), err error) { return nil, errNoInheritance }

func become(*semaphore.Semaphore, *exec.Cmd, *watcher) error { return errNoInheritance }
