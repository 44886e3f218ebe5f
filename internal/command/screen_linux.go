package command

import (
	"os"
	"os/signal"

	"github.com/procsem/semaphore/internal/exitsignal"
	"github.com/procsem/semaphore/internal/proc"
)

// catchesStop: Go's runtime keeps its handler of SIGTSTP when nobody listens any more, and then the signal does
// nothing. Only on Linux can its default action be had back.
const catchesStop = true

// restoreStop makes SIGTSTP stop procsem again. Go is told that it is ignored, so that the next Notify catches it
// anew.
func restoreStop() {
	signal.Ignore(sigStop)
	exitsignal.SetDefault(sigStop)
}

// A company is who else may write on the terminal.
type company struct {
	other int // one of them, when last looked
}

// noneInGroup reports whether all other processes of our process group are our ancestors.
func (c *company) noneInGroup() bool {
	var known bool
	c.other, known = proc.OtherInGroup(os.Getpid(), c.other)
	return c.other == 0 && (known || leadsGroup())
}
