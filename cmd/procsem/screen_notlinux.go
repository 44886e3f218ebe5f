//go:build unix && !linux

package main

// catchesStop: see screen_linux.go. Here the line of a wait is left on the terminal when Ctrl-Z stops procsem.
const catchesStop = false

func restoreStop() {}
