package semaphore

import (
	"os"
	"os/signal"
)

// startInterrupts lets the signals that WithRetryOnEINTR names end the handle's waits. The
// kernel would interrupt one thread of its choice, which hardly ever is the one that is
// blocked for the handle. stopInterrupts then lets them do what they did before.
func (s *Semaphore) startInterrupts() {
	s.stopInterrupts = func() {}
	heeded := heededSignals(s.opts.interrupts)
	if len(heeded) == 0 {
		return
	}
	arrived := make(chan os.Signal, 1)
	signal.Notify(arrived, heeded...)
	go func() {
		for range arrived {
			if s.enter() {
				s.queue.DismissAll(ErrInterrupted)
				s.back.Interrupt() // no waiter to serve
				s.leave()
			}
		}
	}()
	s.stopInterrupts = func() {
		signal.Stop(arrived) // nothing is sent any more
		close(arrived)
	}
}
