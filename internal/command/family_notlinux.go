//go:build !linux

package command

// What a command has started is not to be found here.

func (c child) endFamily() { c.end() }

func (c child) killFamily() error {
	c.kill()
	return nil
}

func (child) forgetFamily() {}

func (child) endRest(<-chan loss) {}
