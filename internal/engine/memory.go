package engine

import (
	"maps"
	"runtime"
	"slices"
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
				closed.remove(old)
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
			closed.add(n)
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
	closed.remove(n)
}

const (
	// maxClosed is how many mappings without an open handle may wait for the garbage
	// collector before it is made to run.
	maxClosed = mostClosed / 8
	// mostClosed is how many there may be until it is done: then Open waits for it, which
	// takes seconds with a large heap. Those that the program refers to still are not
	// counted: no collection frees them. A process has 65,530 mappings (vm.max_map_count),
	// and a recoverable semaphore takes two of them, and a megabyte of addresses: on 64 bits
	// there may be 4,000, on 32 bits 500.
	mostClosed = 500 << (strconv.IntSize / 64 * 3)
)

// closed are the mappings whose handles are all closed, of all engines. A program that
// opens and closes semaphores of many names faster than the garbage collector runs on its
// own would use up its mappings, and its address space.
var closed = closedMappings{kept: map[closedMapping]bool{}}

type closedMappings struct {
	sync.Mutex
	kept       map[closedMapping]bool // whether it has outlasted a collection that began after it was closed
	keeps      int                    // how many have
	collection chan struct{}          // closed at the end of the one in progress; nil if there is none
}

// A closedMapping is alive until a collection has found that nothing refers to its memory.
// Some time after that it is unmapped.
type closedMapping interface{ alive() bool }

func (n *mapping[T]) alive() bool { return n.memory.Value() != nil }

func (c *closedMappings) add(n closedMapping) {
	c.Lock()
	c.kept[n] = false
	c.Unlock()
}

func (c *closedMappings) remove(n closedMapping) {
	c.Lock()
	if c.kept[n] {
		c.keeps--
	}
	delete(c.kept, n)
	c.Unlock()
}

// collect runs the garbage collector. Of those that were closed before, the runtime has
// cleared the weak pointers of all to which nothing refers, and only the others are kept.
func (c *closedMappings) collect() {
	c.Lock()
	before := slices.Collect(maps.Keys(c.kept))
	c.Unlock()
	runtime.GC()
	dead := slices.DeleteFunc(before, c.keep)
	// Their cleanups are queued, and run beside this. If they take long, as when another
	// cleanup of the program has stopped them, then each Open beyond mostClosed waits so long.
	const pause, most = time.Millisecond, 100
	for range most {
		if dead = slices.DeleteFunc(dead, c.isGone); len(dead) == 0 {
			return
		}
		time.Sleep(pause)
	}
}

// keep notes one that has outlasted a collection. It says false of one that is dead.
func (c *closedMappings) keep(n closedMapping) bool {
	if !n.alive() {
		return false
	}
	c.Lock()
	defer c.Unlock()
	// It may have been opened meanwhile. If it was closed again, too, it counts as kept until
	// the next collection, which frees it if nothing refers to it.
	if kept, isClosed := c.kept[n]; isClosed && !kept {
		c.kept[n] = true
		c.keeps++
	}
	return true
}

func (c *closedMappings) isGone(n closedMapping) bool {
	c.Lock()
	defer c.Unlock()
	_, isThere := c.kept[n]
	return !isThere
}

// makeRoom runs the garbage collector if there are many mappings to be freed, and waits for
// it if there are very many.
func makeRoom() {
	closed.Lock()
	more := len(closed.kept) - closed.keeps
	if more > maxClosed && closed.collection == nil {
		done := make(chan struct{})
		closed.collection = done
		go func() {
			closed.collect()
			closed.Lock()
			closed.collection = nil
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
