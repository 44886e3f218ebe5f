//go:build !unix && !windows

package main

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"

	"github.com/procsem/semaphore"
)

const canBecome = false

func become(*semaphore.Semaphore, *exec.Cmd, *watcher) error { return errors.ErrUnsupported }

type leash struct{}

func newLeash() (leash, error) { return leash{}, nil }

func (leash) attach(*semaphore.Semaphore) (release func(), err error) {
	return nil, fmt.Errorf("a lock cannot be left to another program on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func shellCommand(line string) *exec.Cmd { return exec.Command("sh", "-c", line) }
