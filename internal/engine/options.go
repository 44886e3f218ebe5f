package engine

import (
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"unicode/utf8"

	"github.com/procsem/semaphore/internal/permits"
)

// Options are the options that engines look at.
type Options struct {
	Dir        string // of the file, absolute, if the engine has one; "": the usual directory
	Create     bool
	Value      int
	ValueSet   bool // by the caller
	Mode       fs.FileMode
	RetryEINTR bool
	Exact      bool         // the engine was asked for by name: every operation is to be its own
	Label      string       // what the handle says of itself; see WrongLabel
	Log        *slog.Logger // nil: silent
	Owner      *Owner       // of a semaphore that is created, and expected of one that exists, whatever Mode is; nil: the caller

	// Alone returns an error if the name belongs to another kind of semaphore too.
	// An engine calls it, by CheckAlone, when it has found and checked a semaphore
	// that exists, and before it changes anything in it: a refused Open changes nothing.
	// ours is the semaphore's file, nil if it has none that the engine knows.
	Alone func(ours fs.FileInfo) error
}

// An Owner is a user and a group of a Unix system; -1 stands for that of the caller.
type Owner struct{ UID, GID int }

// Caller is the caller.
var Caller = Owner{UID: -1, GID: -1}

// WithOwner returns a semaphore.Option that makes somebody else the owner of a recoverable semaphore that is
// created. Package semaphore sets it.
var WithOwner func(*Owner) any

// WrongLabel returns what is wrong with a label, "" if nothing is.
func WrongLabel(label string) string {
	if len(label) <= permits.MaxLabel && utf8.ValidString(label) && !strings.Contains(label, "\x00") {
		return ""
	}
	return fmt.Sprintf("it has %d bytes; a label is UTF-8 of at most %d bytes without NUL", len(label), permits.MaxLabel)
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
