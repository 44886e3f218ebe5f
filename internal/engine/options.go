package engine

import (
	"io/fs"
	"log/slog"
)

// Options are the options that engines look at.
type Options struct {
	Create     bool
	Value      int
	ValueSet   bool // by the caller
	Mode       fs.FileMode
	RetryEINTR bool
	Exact      bool         // the engine was asked for by name: every operation is to be its own
	Log        *slog.Logger // nil: silent

	// Alone returns an error if the name belongs to another kind of semaphore too.
	// An engine calls it, by CheckAlone, when it has found and checked a semaphore
	// that exists, and before it changes anything in it: a refused Open changes nothing.
	// ours is the semaphore's file, nil if it has none that the engine knows.
	Alone func(ours fs.FileInfo) error
}

// CheckAlone calls Alone, if there is one.
func (o *Options) CheckAlone(ours fs.FileInfo) error {
	if o.Alone == nil {
		return nil
	}
	return o.Alone(ours)
}

// Debug and Warn log for the handle, if there is a logger.
func (o *Options) Debug(msg string, args ...any) {
	if o.Log != nil {
		o.Log.Debug("semaphore: "+msg, args...)
	}
}

// Warn logs what should be seen.
func (o *Options) Warn(msg string, args ...any) {
	if o.Log != nil {
		o.Log.Warn("semaphore: "+msg, args...)
	}
}
