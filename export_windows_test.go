package semaphore

import "os"

var StoresPatience = &storesPatience

const StoresMutex = storesMutex

var CheckLocal = checkLocal

// SetUnwatched makes it so that no process may be watched.
func SetUnwatched(on bool) { unwatched.Store(on) }

// File returns the file of a recoverable semaphore, by whose handle its lock is.
func File(s *Semaphore) *os.File { return s.back.(*recoverable).f }

// WakeName returns the name of what the waiters of a recoverable semaphore sleep on.
func WakeName(s *Semaphore) (string, error) {
	head, err := readHead(File(s))
	if err != nil {
		return "", err
	}
	return wakeName(File(s), head)
}
