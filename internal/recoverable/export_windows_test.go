package semaphore

import "os"

var StoresPatience = &storesPatience

const StoresMutex = storesMutex

var CheckLocal = checkLocal

// OpenAround opens a recoverable semaphore's file, calls then, and goes on to make a handle of it.
func OpenAround(path string, then func()) error {
	f, err := openRegular(path)
	if err != nil {
		return err
	}
	then()
	r, err := newRecoverable(f, path, &options{})
	if err == nil {
		r.close()
	}
	return err
}

var ErrVanished = errVanished

// PublishAround publishes a file, and calls then when it is about to get its name.
func PublishAround(dir, name string, then func(temp string)) error {
	f, err := publish(dir, name, func(f *os.File) error { then(f.Name()); return nil }, 0o600)
	if err == nil {
		f.Close()
	}
	return err
}

// WakeName returns the name of what the waiters of a recoverable semaphore sleep on.
func WakeName(s *Semaphore) (string, error) {
	f := s.back.(*recoverable).f
	head, err := readHead(f)
	if err != nil {
		return "", err
	}
	return wakeName(f, head)
}
