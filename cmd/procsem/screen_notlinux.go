//go:build unix && !linux

package main

// catchesStop: see screen_linux.go.
const catchesStop = false

func restoreStop() {}
