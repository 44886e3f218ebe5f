// Package waitqueue is a first-in-first-out queue of goroutines: a fair lock
// whose waiters can leave. The goroutine at the head acts for the queue, the
// others sleep until those before them have left.
package waitqueue

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// ErrClosed is what Enter returns on a closed queue.
var ErrClosed = errors.New("waitqueue: closed")

// A Queue's zero value is empty and open. It must not be copied.
type Queue struct {
	mu      sync.Mutex
	inside  atomic.Int64 // the head and all behind it; written under mu
	headed  bool         // somebody is the head
	closed  bool
	waiters list.List // of *waiter, those behind the head
}

type waiter struct {
	ready  chan struct{} // closed when the waiter leaves the list by another's hand
	closed bool          // why: the queue was closed; otherwise it is the head now
}

// Len returns how many goroutines are in the queue, the head among them. It
// takes no lock.
func (q *Queue) Len() int { return int(q.inside.Load()) }

// Idle reports whether nobody is in the queue.
func (q *Queue) Idle() bool { return q.Len() == 0 }

// TryEnter becomes the head if the queue is idle and open.
func (q *Queue) TryEnter() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.headed {
		return false
	}
	q.headed = true
	q.inside.Add(1)
	return true
}

// Enter waits until the caller is the head; who is must call Leave. It
// returns ctx.Err() if ctx ends first, and ErrClosed if the queue is closed.
func (q *Queue) Enter(ctx context.Context) error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	q.inside.Add(1)
	if !q.headed {
		q.headed = true
		q.mu.Unlock()
		return nil
	}
	w := &waiter{ready: make(chan struct{})}
	place := q.waiters.PushBack(w)
	q.mu.Unlock()

	select {
	case <-w.ready:
		if w.closed {
			return ErrClosed
		}
		return nil
	case <-ctx.Done():
	}

	q.mu.Lock()
	select {
	case <-w.ready:
		// Made the head, or closed, before we could leave. A head that
		// leaves has to let the next one through.
		q.mu.Unlock()
		if !w.closed {
			q.Leave()
		}
	default:
		q.waiters.Remove(place)
		q.inside.Add(-1)
		q.mu.Unlock()
	}
	return ctx.Err()
}

// Leave ends the head's turn; the next in line becomes the head.
func (q *Queue) Leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inside.Add(-1)
	first := q.waiters.Front()
	if first == nil {
		q.headed = false
		return
	}
	close(q.waiters.Remove(first).(*waiter).ready)
}

// Close sends everybody behind the head away with ErrClosed, and so all who
// come later. The head stays until it leaves.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for e := q.waiters.Front(); e != nil; e = q.waiters.Front() {
		w := q.waiters.Remove(e).(*waiter)
		w.closed = true
		q.inside.Add(-1)
		close(w.ready)
	}
}
