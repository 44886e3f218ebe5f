package recoverable

import (
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
	h, err := newHandle(f, path, &engine.Options{})
	if err == nil {
		h.Close()
	}
	return err
}

var ErrVanished = errVanished

// WakeName returns the name of what the waiters of a semaphore sleep on.
func WakeName(backend any) (string, error) {
	f := backend.(*handle).f
	head, err := readHead(f)
	if err != nil {
		return "", err
	}
	return wakeName(f, head)
}
