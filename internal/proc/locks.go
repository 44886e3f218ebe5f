package proc

import "slices"

// Bytes are those of a file that a process has locked, as spans: the kernel joins locks of
// neighbouring bytes, and others may have locked more than one could list.
type Bytes []span

type span struct{ first, last int64 }

func (s span) has(at int64) bool { return s.first <= at && at <= s.last }

// Has reports whether the byte at that offset is among them.
func (b Bytes) Has(at int64) bool {
	return slices.ContainsFunc(b, func(s span) bool { return s.has(at) })
}

// Owners is what processes have locked of a file, by their ids.
type Owners map[int]Bytes

// Of returns the ids of the processes that have locked the byte at that offset, in order.
func (o Owners) Of(at int64) (pids []int) {
	for pid, held := range o {
		if held.Has(at) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}
