//go:build !unix && !windows

package command

import (
	"errors"
	"io"
	"os"
)

var keySignals map[byte]os.Signal

func prepareScreen(io.Writer) (restore func(), err error) { return nil, errors.ErrUnsupported }
