// Package waitqueue is a first-in-first-out queue of goroutines that wait for
// something that is had one at a time, whose waiters can leave. What comes is
// given to the one in front, by whoever has it to give.
//
// While somebody waits there is one server, a goroutine that looks for more on
// behalf of all. Who joins a queue without one has to see to it that there is.
package waitqueue

import (
	"container/list"
	"errors"
	"math"
	"sync"
	"sync/atomic"
)

// ErrClosed is what waiters of a closed queue get.
var ErrClosed = errors.New("waitqueue: closed")

// A Queue's zero value is empty and open. It must not be copied.
type Queue struct {
	mu      sync.Mutex
	waiters list.List    // of *Waiter
	waiting atomic.Int64 // its length; written under mu
	served  bool         // there is a server
	closed  bool
	passed  int // by Pass, in a row
}

// A Waiter is a place in the queue.
type Waiter struct {
	// Ready is closed when the waiter has left the queue by another's hand;
	// Err then says how: nil if it was given what it waits for.
	Ready chan struct{}
	Err   error
	place *list.Element // nil when it has left
}

// Len returns how many wait. It takes no lock.
func (q *Queue) Len() int { return int(q.waiting.Load()) }

// Idle reports whether nobody waits.
func (q *Queue) Idle() bool { return q.Len() == 0 }

// Join adds a waiter at the end. If serve is true the queue had no server, and
// the caller must serve it until Retire allows to stop.
func (q *Queue) Join() (w *Waiter, serve bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, false, ErrClosed
	}
	w = &Waiter{Ready: make(chan struct{})}
	w.place = q.waiters.PushBack(w)
	q.waiting.Add(1)
	serve = !q.served
	q.served = true
	return w, serve, nil
}

// Leave takes a waiter out. It reports false if the waiter is out already: its
// Ready is closed, and it may have been given what it waited for. last says
// that nobody is left.
func (q *Queue) Leave(w *Waiter) (left, last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.place == nil {
		return false, false
	}
	q.remove(w)
	return true, q.waiters.Len() == 0
}

// front returns the waiter in front; mu is held and the queue not empty.
func (q *Queue) front() *Waiter { return q.waiters.Front().Value.(*Waiter) }

// dismiss sends a waiter away; mu is held.
func (q *Queue) dismiss(w *Waiter, err error) {
	q.remove(w)
	w.Err = err
	close(w.Ready)
}

func (q *Queue) remove(w *Waiter) {
	q.waiters.Remove(w.place)
	w.place = nil
	q.waiting.Add(-1)
}

// Serve calls take for the waiters, one after the other, until it returns
// blocked or nobody is left; it reports the latter. A waiter for whom take
// returns something else is sent away with that. Nobody can leave meanwhile, so
// whatever take takes has an owner.
func (q *Queue) Serve(take func() error, blocked error) (empty bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.waiters.Len() > 0 {
		err := take()
		if err == blocked {
			return false
		}
		q.dismiss(q.front(), err)
	}
	return true
}

// Give gives the waiter in front what it waits for. It reports false if nobody
// waits.
func (q *Queue) Give() bool { return q.Pass(math.MaxInt) }

// Pass is Give, but not more than limit times in a row: the next time it does
// nothing and reports false.
func (q *Queue) Pass(limit int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiters.Len() == 0 || q.passed >= limit {
		q.passed = 0
		return false
	}
	q.passed++
	q.dismiss(q.front(), nil)
	return true
}

// Front returns the waiter in front, nil if nobody waits.
func (q *Queue) Front() *Waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiters.Len() == 0 {
		return nil
	}
	return q.front()
}

// Dismiss sends a waiter away with err, if it still waits.
func (q *Queue) Dismiss(w *Waiter, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w != nil && w.place != nil {
		q.dismiss(w, err)
	}
}

// Retire ends the server's office if nobody waits, and reports whether it did.
func (q *Queue) Retire() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiters.Len() > 0 {
		return false
	}
	q.served = false
	return true
}

// Served reports whether there is a server.
func (q *Queue) Served() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.served
}

// Close sends everybody away with ErrClosed, and so all who come later.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for q.waiters.Len() > 0 {
		q.dismiss(q.front(), ErrClosed)
	}
}
