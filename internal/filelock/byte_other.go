//go:build unix && !linux

package filelock

import (
	"errors"
	"os"
)

func tryLockByte(*os.File, int64) (bool, error) { return false, errors.ErrUnsupported }

func unlockByte(*os.File, int64) error { return errors.ErrUnsupported }

func byteLocked(*os.File, int64, int64) (bool, error) { return false, errors.ErrUnsupported }
