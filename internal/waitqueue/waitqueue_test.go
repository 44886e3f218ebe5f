package waitqueue

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// line lets n goroutines enter one after the other, each in a place of its
// own, and reports to entered who becomes the head. A head stays until its
// leave channel is closed.
func line(q *Queue, ctxs []context.Context, report func(i int, err error), leave []chan struct{}) {
	var mu sync.Mutex
	for i, ctx := range ctxs {
		go func() {
			err := q.Enter(ctx)
			mu.Lock()
			report(i, err)
			mu.Unlock()
			if err == nil {
				<-leave[i]
				q.Leave()
			}
		}()
		synctest.Wait()
	}
}

func setup(n int) (ctxs []context.Context, cancels []context.CancelFunc, leave []chan struct{}) {
	for range n {
		ctx, cancel := context.WithCancel(context.Background())
		ctxs = append(ctxs, ctx)
		cancels = append(cancels, cancel)
		leave = append(leave, make(chan struct{}))
	}
	return
}

type result struct {
	Who int
	Err error
}

func TestQueueServesInOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		ctxs, _, leave := setup(5)
		var got []int
		line(&q, ctxs, func(i int, err error) { got = append(got, i) }, leave)
		for i := range leave {
			if want := i + 1; len(got) != want {
				t.Fatalf("%d goroutines were let through, want %d", len(got), want)
			}
			if q.Idle() {
				t.Fatal("Idle while somebody is the head")
			}
			close(leave[i])
			synctest.Wait()
		}
		if diff := cmp.Diff([]int{0, 1, 2, 3, 4}, got); diff != "" {
			t.Errorf("order of heads (-want +got):\n%s", diff)
		}
		if !q.Idle() {
			t.Error("not Idle after everybody left")
		}
	})
}

func TestQueueLetsWaitersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		ctxs, cancels, leave := setup(4)
		var got []result
		line(&q, ctxs, func(i int, err error) { got = append(got, result{i, err}) }, leave)
		cancels[2]()
		synctest.Wait()
		cancels[1]()
		synctest.Wait()
		close(leave[0])
		synctest.Wait()
		close(leave[3])
		synctest.Wait()
		want := []result{{0, nil}, {2, context.Canceled}, {1, context.Canceled}, {3, nil}}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b error) bool { return a == b })); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if !q.Idle() {
			t.Error("not Idle after everybody left")
		}
	})
}

// A waiter that is made the head at the moment it is cancelled may go either
// way, but the one behind it must get its turn.
func TestQueueCancelAtHandOver(t *testing.T) {
	for range 1000 {
		synctest.Test(t, func(t *testing.T) {
			var q Queue
			ctxs, cancels, leave := setup(3)
			heads := make(chan int, 3)
			line(&q, ctxs, func(i int, err error) {
				if err == nil {
					heads <- i
				}
			}, leave)
			go cancels[1]()
			go close(leave[0])
			close(leave[1])
			close(leave[2])
			synctest.Wait()
			if !q.Idle() {
				t.Fatal("the last waiter did not get its turn")
			}
			close(heads)
			last := -1
			for i := range heads {
				last = i
			}
			if last != 2 {
				t.Fatalf("the last head was %d, want 2", last)
			}
		})
	}
}

func TestQueueTryEnter(t *testing.T) {
	var q Queue
	if !q.TryEnter() {
		t.Fatal("TryEnter of an idle queue failed")
	}
	if q.TryEnter() {
		t.Fatal("TryEnter succeeded while there was a head")
	}
	q.Leave()
	q.Close()
	if q.TryEnter() {
		t.Fatal("TryEnter of a closed queue succeeded")
	}
}

func TestQueueClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		ctxs, _, leave := setup(3)
		var got []result
		line(&q, ctxs, func(i int, err error) { got = append(got, result{i, err}) }, leave)
		q.Close()
		synctest.Wait()
		if len(got) != 3 || got[0].Err != nil || got[1].Err != ErrClosed || got[2].Err != ErrClosed {
			t.Errorf("got %v, want the head in place and two ErrClosed", got)
		}
		close(leave[0])
		synctest.Wait()
		if !q.Idle() {
			t.Error("not Idle after the head left the closed queue")
		}
		if err := q.Enter(context.Background()); err != ErrClosed {
			t.Errorf("Enter of a closed queue: %v, want ErrClosed", err)
		}
	})
}
