package command

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/windows"
)

// keySignals are what the console tells of keys, if they do not come one by one.
var keySignals = map[byte]os.Signal{ctrlC: os.Interrupt}

// prepareScreen makes a console obey what is written to it.
func prepareScreen(out io.Writer) (restore func(), err error) {
	f, isFile := out.(*os.File)
	if !isFile {
		return nil, errors.ErrUnsupported
	}
	console := windows.Handle(f.Fd())
	var mode uint32
	if err := windows.GetConsoleMode(console, &mode); err != nil {
		return nil, err
	}
	if err := windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING); err != nil {
		return nil, err
	}
	return func() { _ = windows.SetConsoleMode(console, mode) }, nil
}
