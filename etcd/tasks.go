package etcd

import "sync"

// Tasks are goroutines that may be started while somebody waits for them, as those of a sync.WaitGroup may not.
type tasks struct {
	mu      sync.Mutex
	running int
	none    chan struct{} // closed when none runs; nil: nobody waits
}

func (t *tasks) Go(f func()) {
	t.mu.Lock()
	t.running++
	t.mu.Unlock()
	go func() {
		defer func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.running--; t.running == 0 && t.none != nil {
				close(t.none)
				t.none = nil
			}
		}()
		f()
	}()
}

// idle returns a channel that is closed when none runs.
func (t *tasks) idle() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.none == nil {
		none := make(chan struct{})
		if t.running == 0 {
			close(none)
			return none
		}
		t.none = none
	}
	return t.none
}
