// Package waitqueue is a first-in-first-out queue of goroutines that wait for
// something that is had one at a time, whose waiters can leave. What comes is
// given to the one in front, by whoever has it to give.
//
// While somebody waits there is one server, a goroutine that looks for more on
// behalf of all. Who joins a queue without one has to see to it that there is.
package waitqueue

import (
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
	first   *Waiter
	last    *Waiter
	waiting atomic.Int64 // how many; written under mu
	joined  Ticket       // the last ticket
	served  bool         // there is a server
	closed  bool
	passed  int // by Pass, in a row
}

// A Waiter is a place in the queue.
type Waiter struct {
	// Ready holds an element when the waiter has left the queue by another's
	// hand; Err then says how: nil if it was given what it waits for.
	Ready chan struct{}
	Err   error

	// ForPermit and Got are the queue's user's: what kind of thing the waiter
	// waits for, and which one it was given.
	ForPermit bool
	Got       int

	ticket     Ticket // 0 when it has left
	prev, next *Waiter
}

// A Ticket tells waiters from each other; 0 is nobody's.
type Ticket uint64

// Len returns how many wait. It takes no lock.
func (q *Queue) Len() int { return int(q.waiting.Load()) }

// Idle reports whether nobody waits.
func (q *Queue) Idle() bool { return q.Len() == 0 }

// Join adds a waiter at the end. If serve is true the queue had no server, and
// the caller must serve it until Retire allows to stop.
func (q *Queue) Join(forPermit bool) (w *Waiter, serve bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, false, ErrClosed
	}
	q.joined++
	w = &Waiter{Ready: make(chan struct{}, 1), ForPermit: forPermit, ticket: q.joined, prev: q.last}
	if q.last == nil {
		q.first = w
	} else {
		q.last.next = w
	}
	q.last = w
	q.waiting.Add(1)
	serve = !q.served
	q.served = true
	return w, serve, nil
}

// Leave takes a waiter out. It reports false if the waiter is out already: its
// Ready holds an element, and it may have been given what it waited for. front
// says that it was in front, empty that nobody is left.
func (q *Queue) Leave(w *Waiter) (left, front, empty bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.ticket == 0 {
		return false, false, false
	}
	front = q.first == w
	q.remove(w)
	return true, front, q.first == nil
}

// dismiss sends the waiter in front away; mu is held and there is one.
func (q *Queue) dismiss(err error) {
	w := q.first
	q.remove(w)
	w.Err = err
	w.Ready <- struct{}{}
}

func (q *Queue) remove(w *Waiter) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.ticket = nil, nil, 0
	q.waiting.Add(-1)
}

// Serve calls take for the waiters, one after the other, until it returns
// blocked or nobody is left; it reports the latter. A waiter for whom take
// returns something else is sent away with that. Nobody can leave meanwhile, so
// whatever take takes has an owner.
func (q *Queue) Serve(take func(*Waiter) error, blocked error) (empty bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.first != nil {
		err := take(q.first)
		if err == blocked {
			return false
		}
		q.dismiss(err)
	}
	return true
}

// Give gives the waiter in front what it waits for. It reports false if nobody
// waits.
func (q *Queue) Give() bool {
	given, _, _ := q.Pass(math.MaxInt, func(*Waiter) error { return nil })
	return given
}

// Pass is Give, but not more than limit times in a row: the next time it does
// nothing and reports false. empty says that nobody is left, so that the server
// has to retire. hand prepares what the waiter in front is given; if it fails,
// nothing is.
func (q *Queue) Pass(limit int, hand func(*Waiter) error) (given, empty bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first == nil || q.passed >= limit {
		q.passed = 0
		return false, false, nil
	}
	if err := hand(q.first); err != nil {
		return false, false, err
	}
	q.passed++
	q.dismiss(nil)
	return true, q.first == nil, nil
}

// Front returns the ticket of the waiter in front, 0 if nobody waits.
func (q *Queue) Front() Ticket {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first == nil {
		return 0
	}
	return q.first.ticket
}

// Dismiss sends the waiter with that ticket away with err, if it is in front.
func (q *Queue) Dismiss(t Ticket, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first != nil && q.first.ticket == t {
		q.dismiss(err)
	}
}

// Retire ends the server's office if nobody waits, and reports whether it did.
func (q *Queue) Retire() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first != nil {
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
	for q.first != nil {
		q.dismiss(ErrClosed)
	}
}
