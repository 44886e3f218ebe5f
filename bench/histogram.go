package main

import (
	"fmt"
	"math/bits"
	"strings"
)

// A histogram counts durations, in buckets that are a sixteenth of a duration wide at most. Each process has one
// of its own, and prints it.
type histogram [1024]int

func (h *histogram) count(ns int64) { h[bucket(uint64(ns))]++ }

func bucket(ns uint64) int {
	if ns < 16 {
		return int(ns)
	}
	log := bits.Len64(ns) - 1
	return (log-3)*16 + int(ns>>(log-4)&15)
}

// least returns the shortest duration of a bucket.
func least(bucket int) float64 {
	if bucket < 16 {
		return float64(bucket)
	}
	return float64(uint64(16+bucket%16) << (bucket/16 - 1))
}

// quantile returns the duration that the part q of all does not exceed, as the middle of its bucket.
func (h *histogram) quantile(q float64) float64 {
	all := 0
	for _, n := range h {
		all += n
	}
	below := 0
	for b, n := range h {
		if below += n; n > 0 && float64(below) >= q*float64(all) {
			return (least(b) + least(b+1)) / 2
		}
	}
	return 0
}

func (h *histogram) String() string {
	var s strings.Builder
	for b, n := range h {
		if n > 0 {
			fmt.Fprintf(&s, " %d:%d", b, n)
		}
	}
	return s.String()
}

// add adds what another process has printed.
func (h *histogram) add(fields []string) error {
	for _, f := range fields {
		var b, n int
		if _, err := fmt.Sscanf(f, "%d:%d", &b, &n); err != nil || b < 0 || b >= len(h) {
			return fmt.Errorf("%q is no bucket and count", f)
		}
		h[b] += n
	}
	return nil
}
