//go:build !race

// Package racesync tells the race detector of the order that semaphores make.
package racesync

// A Sync is nothing without the detector; see race.go.
type Sync struct{}

func New(_, _, _ string) Sync { return Sync{} }

func (Sync) Acquire() {}
func (Sync) Release() {}
