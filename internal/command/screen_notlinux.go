//go:build unix && !linux

package command

// catchesStop: see screen_linux.go. Here the line of a wait is left on the terminal when Ctrl-Z stops procsem.
const catchesStop = false

func restoreStop() {}

// A company is who else may write on the terminal. Of our process group that is not known here: where others run
// procsem, a script or make, they may run more.
type company struct{}

func (*company) noneInGroup() bool { return leadsGroup() }
