package engine

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

type memory struct{ _ *int } // with a pointer: the runtime puts it together with no other

// fakes are mappings that only count.
type fakes struct {
	Mappings[int, memory]
	mapped atomic.Int64
	most   int64
	hold   chan struct{} // if it is not nil, what unmaps waits until it is closed
}

func (f *fakes) open(t *testing.T, file int) (*memory, Use) {
	t.Helper()
	m, use, err := f.Open(file, func() (*memory, func(), error) {
		f.most = max(f.most, f.mapped.Add(1))
		return new(memory), func() {
			if f.hold != nil {
				<-f.hold
			}
			f.mapped.Add(-1)
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, use
}

func (f *fakes) awaitUnmapped(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); f.mapped.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d are mapped still", f.mapped.Load())
		}
		runtime.GC()
	}
}

func TestMappingsAreShared(t *testing.T) {
	var f fakes
	a, useA := f.open(t, 1)
	b, useB := f.open(t, 1)
	c, useC := f.open(t, 2)
	if a != b || a == c || f.mapped.Load() != 2 {
		t.Errorf("one file twice: %v; another one: %v; %d are mapped, want 2", a == b, a == c, f.mapped.Load())
	}
	useA.Close()
	useB.Close()
	useC.Close()
	runtime.GC()
	if d, use := f.open(t, 1); d != a {
		t.Error("what is still referred to was mapped again")
	} else {
		use.Close()
	}
	runtime.KeepAlive(a)
	runtime.KeepAlive(c)
	a, b, c = nil, nil, nil
	f.awaitUnmapped(t)
	if len(f.files) != 0 {
		t.Errorf("%d files are known still", len(f.files))
	}
}

func TestDiscardUnmapsAtOnce(t *testing.T) {
	var f fakes
	_, use := f.open(t, 1)
	use.Discard()
	if n := f.mapped.Load(); n != 0 || len(f.files) != 0 {
		t.Errorf("%d are mapped, %d files are known; want 0", n, len(f.files))
	}
	// Another handle may have calls in progress.
	_, closed := f.open(t, 1)
	_, unused := f.open(t, 1)
	closed.Close()
	unused.Discard()
	if n := f.mapped.Load(); n != 1 {
		t.Errorf("%d are mapped, want 1", n)
	}
	f.awaitUnmapped(t)
}

// A node makes the garbage collector slow.
type node struct{ next *node }

// However long the garbage collector takes, the mappings that wait for it are bounded.
func TestClosedMappingsAreBounded(t *testing.T) {
	var heap *node
	for range 4_000_000 {
		heap = &node{heap}
	}
	var f fakes
	for file := range 15 * mostClosed {
		_, use := f.open(t, file)
		use.Close()
	}
	// One is closed after it was let in, one may have been let in for each collection whose
	// cleanups took too long, and the runtime runs several cleanups at a time.
	if most := int64(mostClosed + mostClosed/8); f.most > most {
		t.Errorf("up to %d closed files were mapped, want at most %d: Open is to wait for the collector", f.most, most)
	}
	t.Logf("at most %d", f.most)
	runtime.KeepAlive(heap)
	heap = nil
	f.awaitUnmapped(t)
}

// What the collector has found is not taken for what the program keeps, however long its
// unmapping takes: else Open would not wait for it.
func TestKeptMappings(t *testing.T) {
	closed.Lock()
	running := closed.collection // of the tests before
	closed.Unlock()
	if running != nil {
		<-running
	}
	f := fakes{hold: make(chan struct{})}
	var kept []*memory
	const keeps = 3
	for file := range maxClosed { // no more, so that Open begins no collection while one is just being closed
		m, use := f.open(t, file)
		use.Close()
		if file < keeps {
			kept = append(kept, m)
		}
	}
	closed.collect()
	closed.Lock()
	if closed.keeps != keeps {
		t.Errorf("%d of %d are kept, want %d", closed.keeps, len(closed.kept), keeps)
	}
	closed.Unlock()
	close(f.hold)
	runtime.KeepAlive(kept)
	kept = nil
	f.awaitUnmapped(t)
	closed.Lock()
	if closed.keeps != 0 || len(closed.kept) != 0 {
		t.Errorf("nothing is mapped: %d of %d are kept", closed.keeps, len(closed.kept))
	}
	closed.Unlock()
}
