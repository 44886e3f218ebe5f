//go:build linux && amd64 && !race && !filelock_fcntl

package semaphore

// WaitServing is a Wait that finds no permit, on a handle that nobody else uses,
// whose caller is the queue's server too: so that all of it is done by one thread.
func WaitServing(s *Semaphore) error {
	if !s.enter() {
		return ErrClosed
	}
	defer s.leave()
	w, serve, err := s.queue.Join(false)
	if err != nil {
		return err
	}
	if serve {
		s.life.Add(1)
		s.serve()
	}
	<-w.Ready
	return s.taken(w.Err, true)
}
