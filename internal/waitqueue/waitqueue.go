// Package waitqueue implements a first-in-first-out queue of goroutines, each of which
// waits for one permit and can leave. Any goroutine that has a permit to give can give
// it to the waiter in front.
//
// While the queue has waiters it has one server, a goroutine that looks for permits on
// behalf of all of them. A goroutine that joins a queue without a server must start one.
package waitqueue

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is what waiters of a closed queue get.
var ErrClosed = errors.New("waitqueue: closed")

// ErrDone is what waiters get that are done waiting, by their channel Done.
var ErrDone = errors.New("waitqueue: done")

// A Queue's zero value is empty and open. It must not be copied.
type Queue struct {
	mu      sync.Mutex
	first   *Waiter
	last    *Waiter
	waiting atomic.Int64 // how many; written under mu
	joined  Ticket       // the last ticket
	served  bool         // there is a server
	closed  bool
	passed  int // how many times in a row Pass has given
	alone   int // how often in a row nobody else waited then
	enroll  func() uint64
	emptied func()
}

// A Waiter is an entry of the queue.
type Waiter struct {
	// Done is closed when the waiter does not want a permit any more: it is about to
	// leave, and others pass it over meanwhile.
	Done <-chan struct{}

	// Ready receives an element when another goroutine has taken the waiter out
	// of the queue; see also Await. It is nil for one without Done, which needs no select.
	Ready chan struct{}

	// Err is set before the waiter is taken out: nil if it was given a permit.
	Err error

	// Wants and Got belong to the user of the queue; the queue does not read them.
	Wants Wants
	Got   Grant

	// Place is what Enroll's function returned for the waiter, 0 without one.
	Place uint64

	Began time.Duration // what its caller says: when it joined, by the caller's clock

	ticket     Ticket // 0 when it has left
	prev, next *Waiter

	// What Ready is for one that has it.
	mu      sync.Mutex
	out     bool // mu is held for it
	changed sync.Cond
}

// Wants are what a waiter waits for: so many permits, for a Permit that is to own them or for the
// handle.
type Wants struct {
	Number    int
	ForPermit bool
}

// A Grant is what a waiter was given: the permit of that number, or Several.
type Grant struct {
	Number  int
	Several []int
}

// A Ticket identifies a waiter of a queue; no waiter has 0.
type Ticket uint64

// free are waiters that nobody refers to any more. To allocate one, and a channel for it, would take a third of the
// time of a hand-over from goroutine to goroutine. Channels are not kept: testing/synctest has each used in one of its
// bubbles only.
var free = sync.Pool{New: func() any {
	w := new(Waiter)
	w.changed.L = &w.mu
	return w
}}

// Free ends the use of a waiter, which has left the queue, or was taken out and has seen that (Await, or Ready): then
// the queue does not touch it any more, but for unlocking mu.
func (w *Waiter) Free() {
	w.Done, w.Ready, w.Err, w.Got, w.Place, w.out = nil, nil, nil, Grant{}, 0, false
	free.Put(w)
}

// Await returns when another goroutine has taken the waiter out of the queue.
func (w *Waiter) Await() {
	if w.Ready != nil {
		<-w.Ready
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.out {
		w.changed.Wait()
	}
}

// takenOut has Await return, or Ready receive.
func (w *Waiter) takenOut() {
	if w.Ready != nil {
		w.Ready <- struct{}{}
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = true
	w.changed.Signal()
}

// Len returns the number of waiters. It takes no lock.
func (q *Queue) Len() int { return int(q.waiting.Load()) }

// Idle reports whether there are no waiters.
func (q *Queue) Idle() bool { return q.Len() == 0 }

// Join adds a waiter at the end, which is done when the channel is closed, and began to wait then. If serve is true the queue had no server, and the
// caller must serve it until Retire returns true.
func (q *Queue) Join(done <-chan struct{}, wants Wants, began time.Duration) (w *Waiter, serve bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, false, ErrClosed
	}
	q.joined++
	w = free.Get().(*Waiter)
	w.Done, w.Wants, w.Began, w.ticket, w.prev = done, wants, began, q.joined, q.last
	if done != nil {
		w.Ready = make(chan struct{}, 1)
	}
	if q.enroll != nil {
		w.Place = q.enroll()
	}
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

// Enroll has a place given to each waiter that is in the queue, and that joins it from now on, in
// their order. Until the next Enroll, emptied is called whenever none is left. nil ends that.
func (q *Queue) Enroll(place func() uint64, emptied func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.enroll, q.emptied = place, emptied
	for w := q.first; w != nil; w = w.next {
		w.Place = 0
		if place != nil {
			w.Place = place()
		}
	}
}

// Leave takes a waiter out. It returns left false if the waiter is out already: its
// Ready holds an element, and it may have been given a permit. front says that it was in
// front, empty that there are no waiters left.
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

// Waits reports whether a waiter is in the queue.
func (q *Queue) Waits(w *Waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return w.ticket != 0
}

// dismiss takes the waiter in front out and sets its Err. The caller holds mu, and there
// is a waiter.
func (q *Queue) dismiss(err error) {
	w := q.first
	q.remove(w)
	w.Err = err
	w.takenOut()
}

// front returns the first waiter that is not done, nil if there is none, and dismisses
// those before it. The caller holds mu.
func (q *Queue) front() *Waiter {
	for q.first != nil {
		select {
		case <-q.first.Done:
			q.dismiss(ErrDone)
		default:
			return q.first
		}
	}
	return nil
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
	if q.first == nil && q.emptied != nil {
		q.emptied()
	}
}

// Serve calls take for the waiters that are not done, one after the other, until take
// returns blocked or there are no waiters left; it reports whether there are none. A
// waiter for which take returns anything else gets that as its Err. No waiter can leave
// during the call of take, so what take takes always goes to a waiter; it may be done by
// then, and has to look.
func (q *Queue) Serve(take func(*Waiter) error, blocked error) (empty bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.front() != nil {
		err := take(q.first)
		if err == blocked {
			return false
		}
		q.dismiss(err)
	}
	return true
}

// Give dismisses the first waiter that is not done with a permit. It reports false if
// there is none.
func (q *Queue) Give() bool {
	given, _, _ := q.Pass(math.MaxInt, nil, func(*Waiter) error { return nil })
	return given
}

// Pass is Give, but not more than limit times in a row if others wait, or if others is nil: then the next call does nothing and
// reports false. It does that also when it has found mostAlone times that nobody waits, for there may be
// others that only try now and then. hand prepares the permit for the waiter in front; if hand fails, the
// waiter stays. empty says that there are no waiters left, so that the server has to
// retire.
func (q *Queue) Pass(limit int, others func() bool, hand func(*Waiter) error) (given, empty bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	waited := q.first != nil
	enough := q.passed >= limit
	if enough {
		q.passed = 0
		q.alone++
		enough = others == nil || q.alone >= mostAlone || others()
	}
	if q.front() == nil || enough {
		q.passed, q.alone = 0, 0
		return false, waited && q.first == nil, nil
	}
	if err := hand(q.first); err != nil {
		return false, false, err
	}
	q.passed++
	q.dismiss(nil)
	return true, q.first == nil, nil
}

const mostAlone = 16

// Front returns the ticket of the waiter in front, 0 if there are no waiters.
func (q *Queue) Front() Ticket {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first == nil {
		return 0
	}
	return q.first.ticket
}

// Dismiss takes the waiter with that ticket out, with err, if it is in front.
func (q *Queue) Dismiss(t Ticket, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first != nil && q.first.ticket == t {
		q.dismiss(err)
	}
}

// Retire ends the server's duty if there are no waiters, and reports whether it did.
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

// DismissAll takes all waiters out, with err.
func (q *Queue) DismissAll(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.first != nil {
		q.dismiss(err)
	}
}

// Close takes all waiters out with ErrClosed. Later Joins return it.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.DismissAll(ErrClosed)
}
