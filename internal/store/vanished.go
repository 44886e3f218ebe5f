//go:build unix || windows

package store

import (
	"os"
	"sync/atomic"
	"time"

	"github.com/procsem/semaphore/internal/engine"
)

// A NameWatch warns, once, when the name of an open file was removed: from then on new
// openers get another semaphore, and the limit is doubled.
type NameWatch struct {
	looked atomic.Int64 // when we last looked, Unix time
	warned atomic.Bool
}

// Start begins the watch: the name was there just now.
func (w *NameWatch) Start() { w.looked.Store(time.Now().Unix()) }

// Look looks, once a second at the most.
func (w *NameWatch) Look(f *os.File, path string, o *engine.Options) {
	now := time.Now().Unix()
	if w.looked.Swap(now) == now {
		return
	}
	if gone, err := NameGone(f, path); err != nil || !gone || w.warned.Swap(true) {
		return
	}
	o.Warn("the name was removed; new openers get another semaphore", "path", path)
}
