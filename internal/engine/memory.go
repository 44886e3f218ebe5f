package engine

import (
	"runtime"
	"strconv"
	"sync"
	"time"
	"weak"
)

// Mappings are an engine's shared memory in this process: one mapping for each file, which
// all handles of the file share. K tells files apart, and T is what handles refer to as
// long as they, or calls in progress on them, may use the memory.
//
// When the last handle is closed, calls may still be in the memory: the fast paths do not
// count themselves. But they refer to their handle, and so to its T. So the garbage
// collector decides: when nothing refers to the T any more the memory is unmapped. A handle
// that is opened before that gets the same T, by a weak pointer: if that still yields a T,
// no cleanup of it has run or will run while the new handle refers to it.
//
// A file cannot be taken for a deleted one whose inode number it has: as long as there is a
// mapping, the kernel keeps the inode, and gives its number to no other file.
type Mappings[K comparable, T any] struct {
	mu    sync.Mutex
	files map[K]*mapping[T]
}

// A mapping must not refer to its T but weakly. Its fields are guarded by the mutex of its
// Mappings.
type mapping[T any] struct {
	memory  weak.Pointer[T]
	free    func()
	cleanup runtime.Cleanup
	open    int  // handles
	shared  bool // more than one handle has had it
}

// A Use is a handle's share in a mapping.
type Use struct{ end func(unused bool) }

// Close says that the handle is closed. Calls may still be in its memory.
func (u Use) Close() { u.end(false) }

// Discard is Close for a handle that no call has ever used: if no other one has had the
// memory, it is unmapped at once.
func (u Use) Discard() { u.end(true) }

// Open returns the memory of a file: what this process has mapped already, or else what make
// returns, with a function that unmaps it. make must not open or close other handles.
func (m *Mappings[K, T]) Open(file K, make func() (*T, func(), error)) (*T, Use, error) {
	makeRoom()
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.files[file]; old != nil {
		if memory := old.memory.Value(); memory != nil {
			if old.open == 0 {
				closed.add(-1)
			}
			old.open++
			old.shared = true
			return memory, m.use(file, old, memory), nil
		}
		// It is about to be unmapped, and then removes only itself.
	}
	memory, free, err := make()
	if err != nil {
		return nil, Use{}, err
	}
	n := &mapping[T]{memory: weak.Make(memory), free: free, open: 1}
	n.cleanup = runtime.AddCleanup(memory, func(n *mapping[T]) { m.unmap(file, n) }, n)
	if m.files == nil {
		m.files = map[K]*mapping[T]{}
	}
	m.files[file] = n
	return memory, m.use(file, n, memory), nil
}

// use refers to the memory, so that the cleanup of what is discarded has not begun yet.
func (m *Mappings[K, T]) use(file K, n *mapping[T], memory *T) Use {
	return Use{func(unused bool) {
		m.mu.Lock()
		n.open--
		last := n.open == 0
		if last {
			closed.add(1)
		}
		unmap := last && unused && !n.shared
		if unmap {
			n.cleanup.Stop()
			m.remove(file, n) // before others can find it
		}
		m.mu.Unlock()
		if unmap {
			n.free()
		}
		runtime.KeepAlive(memory)
	}}
}

// unmap is called when nothing refers to the memory any more: all its handles are closed.
func (m *Mappings[K, T]) unmap(file K, n *mapping[T]) {
	m.mu.Lock()
	m.remove(file, n)
	m.mu.Unlock()
	n.free()
}

// remove forgets a mapping whose handles are closed. The caller holds mu.
func (m *Mappings[K, T]) remove(file K, n *mapping[T]) {
	if m.files[file] == n {
		delete(m.files, file)
	}
	closed.add(-1)
}

const (
	// maxClosed is how many mappings without an open handle may wait for the garbage
	// collector before it is made to run.
	maxClosed = mostClosed / 8
	// mostClosed is how many more there may be until it is done: then Open waits for it. With
	// a large heap it takes seconds. What comes while it runs is left to the next one, so
	// there may be twice as many. A process has 65,530 mappings (vm.max_map_count),
	// and a recoverable semaphore takes two of them, and a megabyte of addresses: on 64 bits
	// there may be 4,000, on 32 bits 500.
	mostClosed = 500 << (strconv.IntSize / 64 * 3)
)

// closed counts the mappings whose handles are all closed, of all engines. A program that
// opens and closes semaphores of many names faster than the garbage collector runs on its
// own would use up its mappings, and its address space.
var closed closedMappings

type closedMappings struct {
	sync.Mutex
	n          int
	kept       int           // at the end of our last collection: the program refers to them still
	collection chan struct{} // closed at the end of the one in progress; nil if there is none
}

func (c *closedMappings) add(n int) {
	c.Lock()
	defer c.Unlock()
	c.n += n
	// What the collection has found may be unmapped later still.
	c.kept = min(c.kept, c.n)
}

// settle waits after a collection until its cleanups have run: else what they are about to
// unmap would be taken for what the program keeps.
func (c *closedMappings) settle() {
	const pause, most = time.Millisecond, 100
	count := func() int {
		c.Lock()
		defer c.Unlock()
		return c.n
	}
	before := count()
	for range most {
		time.Sleep(pause)
		now := count()
		if now >= before {
			return
		}
		before = now
	}
}

// makeRoom runs the garbage collector if there are many mappings to be freed, and waits for
// it if there are very many.
func makeRoom() {
	closed.Lock()
	more := closed.n - closed.kept
	if more > maxClosed && closed.collection == nil {
		done := make(chan struct{})
		closed.collection = done
		go func() {
			runtime.GC()
			closed.settle()
			closed.Lock()
			closed.kept, closed.collection = closed.n, nil
			closed.Unlock()
			close(done)
		}()
	}
	wait := closed.collection
	closed.Unlock()
	if more > mostClosed {
		<-wait
	}
}
