package waitqueue

import (
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	errBlocked = errors.New("blocked")
	errBroken  = errors.New("broken")
)

// hand is for Pass, and prepares nothing.
func hand(*Waiter) error { return nil }

// join adds n waiters to an empty queue, the first of which is to serve it.
func join(t *testing.T, q *Queue, n int) []*Waiter {
	t.Helper()
	var ws []*Waiter
	for i := range n {
		w, serve, err := q.Join(nil, Wants{}, 0)
		if err != nil || serve != (i == 0) {
			t.Fatalf("Join %d: serve %v, %v", i, serve, err)
		}
		ws = append(ws, w)
	}
	if q.Len() != n || q.Idle() || !q.Served() {
		t.Fatalf("Len %d, Idle %v, Served %v", q.Len(), q.Idle(), q.Served())
	}
	return ws
}

// states returns for each waiter whether it waits, and if not, what it got.
func states(ws []*Waiter) []string {
	var s []string
	for _, w := range ws {
		switch {
		case w.ticket != 0:
			s = append(s, "waits")
		case w.Ready == nil && !w.out || w.Ready != nil && len(w.Ready) == 0:
			s = append(s, "left")
		case w.Err == nil:
			s = append(s, "given")
		default:
			s = append(s, w.Err.Error())
		}
	}
	return s
}

func want(t *testing.T, what string, ws []*Waiter, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, states(ws), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestQueueGivesInOrder(t *testing.T) {
	var q Queue
	if given, _, _ := q.Pass(1, nil, hand); given || q.Give() {
		t.Error("given, without a waiter")
	}
	ws := join(t, &q, 4)
	free := 2
	take := func(*Waiter) error {
		if free == 0 {
			return errBlocked
		}
		free--
		return nil
	}
	if q.Serve(take, errBlocked) {
		t.Error("Serve reports no waiters")
	}
	want(t, "after Serve of two", ws, "given", "given", "waits", "waits")
	if q.Front() != ws[2].ticket {
		t.Error("the third is not in front")
	}
	if !q.Give() {
		t.Error("Give found no waiter")
	}
	want(t, "after Give", ws, "given", "given", "given", "waits")
	if q.Retire() {
		t.Error("the server retired before the last waiter")
	}
	free = 5
	if !q.Serve(take, errBlocked) || free != 4 {
		t.Errorf("Serve reports waiters, or took without a waiter: %d left of 5", free)
	}
	want(t, "in the end", ws, "given", "given", "given", "given")
	if !q.Retire() || q.Served() || !q.Idle() || q.Front() != 0 {
		t.Error("the server of an empty queue cannot retire")
	}
	join(t, &q, 2) // the next one serves again
}

func TestQueueWaitersLeave(t *testing.T) {
	var q Queue
	ws := join(t, &q, 3)
	leave := func(i int, left, front, empty bool) {
		t.Helper()
		if l, f, e := q.Leave(ws[i]); l != left || f != front || e != empty {
			t.Errorf("Leave %d: left %v, front %v, empty %v; want %v, %v, %v", i, l, f, e, left, front, empty)
		}
	}
	leave(1, true, false, false)
	leave(1, false, false, false)
	q.Give()
	want(t, "after the second left", ws, "given", "left", "waits")
	leave(0, false, false, false) // it was given a permit, and must keep it
	leave(2, true, true, true)
	if !q.Idle() || q.Give() {
		t.Error("there is still a waiter")
	}
}

func TestQueuePassesOverWaitersThatAreDone(t *testing.T) {
	done := make(chan struct{})
	join := func(q *Queue) (ws []*Waiter) {
		for _, ch := range []chan struct{}{done, nil, done, make(chan struct{}), done} {
			w, _, err := q.Join(ch, Wants{}, 0)
			if err != nil {
				t.Fatal(err)
			}
			ws = append(ws, w)
		}
		return ws
	}
	var served, passed Queue
	ws, wp := join(&served), join(&passed)
	close(done)
	n := 0
	if !served.Serve(func(*Waiter) error { n++; return nil }, errBlocked) || n != 2 {
		t.Errorf("Serve took %d permits for two waiters, or left some", n)
	}
	want(t, "after Serve", ws, ErrDone.Error(), "given", ErrDone.Error(), "given", ErrDone.Error())
	if given, empty, err := passed.Pass(9, nil, hand); !given || empty || err != nil || !passed.Give() {
		t.Errorf("Pass: given %v, empty %v, %v", given, empty, err)
	}
	if given, empty, err := passed.Pass(9, nil, hand); given || !empty || err != nil {
		t.Errorf("Pass to a waiter that is done: given %v, empty %v, %v", given, empty, err)
	}
	want(t, "after Pass", wp, ErrDone.Error(), "given", ErrDone.Error(), "given", ErrDone.Error())
}

func TestQueueDismisses(t *testing.T) {
	var q Queue
	ws := join(t, &q, 4)
	front := q.Front()
	q.Dismiss(front, errBroken)
	q.Dismiss(front, errBlocked) // out already
	q.Dismiss(ws[2].ticket, errBroken)
	q.Dismiss(0, errBroken)
	want(t, "after Dismiss", ws, "broken", "waits", "waits", "waits")
	// The waiter in front gets an error of take.
	n := 0
	q.Serve(func(*Waiter) error {
		n++
		return []error{errBroken, nil, errBlocked}[n-1]
	}, errBlocked)
	want(t, "after Serve", ws, "broken", "broken", "given", "waits")
}

func TestQueuePassIsBounded(t *testing.T) {
	var q Queue
	ws := join(t, &q, 5)
	for i, ok := range []bool{true, true, false, true, true, false, true} {
		if given, empty, _ := q.Pass(2, nil, hand); given != ok || empty != (i == 6) {
			t.Errorf("Pass %d: given %v, want %v; empty %v", i, given, ok, empty)
		}
	}
	want(t, "after five of seven", ws, "given", "given", "given", "given", "given")
}

// While no others wait there is no bound; each time that it is reached they are asked for.
func TestQueuePassAsksForOthers(t *testing.T) {
	var q Queue
	ws := join(t, &q, 9)
	asked := 0
	others := func() bool { asked++; return asked == 3 }
	for i, ok := range []bool{true, true, true, true, true, true, false, true, true, true} {
		if given, _, _ := q.Pass(2, others, hand); given != ok {
			t.Errorf("Pass %d: given %v, want %v", i, given, ok)
		}
	}
	want(t, "after nine of ten", ws, "given", "given", "given", "given", "given", "given", "given", "given", "given")
}

func TestQueueClose(t *testing.T) {
	var q Queue
	ws := join(t, &q, 2)
	q.Close()
	want(t, "after Close", ws, ErrClosed.Error(), ErrClosed.Error())
	if _, _, err := q.Join(nil, Wants{}, 0); err != ErrClosed {
		t.Errorf("Join of a closed queue: %v", err)
	}
	if !q.Retire() {
		t.Error("the server of a closed queue cannot retire")
	}
}

// Permits are given only to waiters that have not left: none is lost, none is given twice.
func TestQueueGiveAgainstLeave(t *testing.T) {
	var q Queue
	const n = 2000
	var given, kept int
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range n {
		var done chan struct{}
		if i%2 == 0 {
			done = make(chan struct{}) // then it is told otherwise
		}
		w, _, err := q.Join(done, Wants{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if left, _, _ := q.Leave(w); !left {
				w.Await()
				mu.Lock()
				kept++
				mu.Unlock()
			}
			w.Free()
		})
		all.Go(func() {
			if q.Give() {
				mu.Lock()
				given++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if given != kept || !q.Idle() {
		t.Errorf("given %d, kept %d, %d wait", given, kept, q.Len())
	}
}
