package recoverable

import (
	"os"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/store"
)

// OpenAround opens a semaphore's file, calls then, and makes a handle of the file.
func OpenAround(path string, then func()) error {
	f, err := store.OpenRegular(path)
	if err != nil {
		return err
	}
	then()
	h, err := newHandle(f, nil, path, &engine.Options{}, (*handle).join)
	if err == nil {
		h.Close()
	}
	return err
}

var ErrVanished = errVanished

// SeenThrough returns what Open checks when it has the claim, and at its end, of a handle
// that is open, and the number of its slot.
func SeenThrough(backend any, second *os.File) (slot int, claim, seen error) {
	h := backend.(*handle)
	return h.owner.Slot(), h.seesClaim(second), h.isSeen(second)
}
