// Package proc reads what the system knows about processes. It alone imports gopsutil,
// which must not get into the module graph of programs that import package semaphore.
//
// On Linux it reads /proc itself: gopsutil's packages read /proc/stat twice, and prepare more, whenever a program
// starts, also if it then looks at no process. A run of procsem whose command does nothing would take
// a tenth longer.
package proc

import (
	"errors"
	"time"
)

// A Process is what people want to know about a process.
type Process struct {
	PID     int
	Command string    // with its arguments, as far as they are known
	Args    []string  // of the command, one by one; nil if they are not known
	User    string    // the name, or the number if there is none
	Started time.Time // zero if unknown
}

// ErrGone means that there is no process with that id, or that it is a zombie.
var ErrGone = errors.New("no such process")

// startDoubt is by how much two values of a process's start may differ. Both are computed
// from the time at which the system was started, which the kernel gives in whole seconds
// and computes anew after each change of the clock.
const startDoubt = 2 * time.Second

// StartedAt reports whether the process may be the one with that id that started at that
// time. Ids are reused, and mean other processes in another pid namespace.
func (p Process) StartedAt(t time.Time) bool {
	return p.Started.Sub(t).Abs() <= startDoubt
}
