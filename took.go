//go:build windows || (cgo && unix)

package semaphore

// took passes on a permit that the engine took without being asked by tryWait.
func (t *turn) took() {
	if !t.s.queue.Give() {
		t.s.giveBack() // they have all left meanwhile
	}
}
