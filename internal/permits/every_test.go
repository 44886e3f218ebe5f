package permits

import (
	"math"
	"testing"
)

// What StartEvery says after a start at one moment, at another one, with a period of 100.
func TestStartEvery(t *testing.T) {
	const period = 100
	for _, tt := range []struct {
		what       string
		start, now Moment
		left       int64
	}{
		{"at once", Moment{5000, 10, 1}, Moment{5000, 10, 1}, 100},
		{"later", Moment{5000, 10, 1}, Moment{5060, 70, 1}, 40},
		{"just before the end", Moment{5000, 10, 1}, Moment{5099, 109, 1}, 1},
		{"at the end", Moment{5000, 10, 1}, Moment{5100, 110, 1}, 0},
		{"long after", Moment{5000, 10, 1}, Moment{9000, 4010, 1}, 0},
		{"the time of day was set forward", Moment{5000, 10, 1}, Moment{9000, 50, 1}, 60},
		{"it was set back", Moment{5000, 10, 1}, Moment{1000, 50, 1}, 60},
		{"it was set back, and the period is over", Moment{5000, 10, 1}, Moment{1000, 110, 1}, 0},
		{"another boot", Moment{5000, 90000, 1}, Moment{5070, 3, 2}, 30},
		{"another boot, whose clock says more", Moment{5000, 10, 1}, Moment{5070, 90000, 2}, 30},
		{"another boot, and the period is over", Moment{5000, 10, 1}, Moment{5100, 3, 2}, 0},
		{"another boot, set back", Moment{5000, 10, 1}, Moment{4000, 3, 2}, 100},
		{"no clock of the boot", Moment{5000, 0, 0}, Moment{5030, 0, 0}, 70},
		{"none at the start", Moment{5000, 0, 0}, Moment{5030, 77777, 1}, 70},
		{"none now", Moment{5000, 77777, 1}, Moment{5030, 0, 0}, 70},
		{"none, set back", Moment{5000, 0, 0}, Moment{4000, 0, 0}, 100},
		{"the clock of the boot was before, for the file was written over", Moment{5000, 500, 1}, Moment{5030, 400, 1}, 100},
		{"the year 1970", Moment{0, 10, 1}, Moment{40, 50, 1}, 60},
	} {
		t.Run(tt.what, func(t *testing.T) {
			table := newWorld(t, 1).table
			if left := table.StartEvery(tt.start, period, false); left != 0 {
				t.Fatalf("before the first start: %d left", left)
			}
			if left := table.StartEvery(tt.start, period, true); left != 0 {
				t.Fatalf("the first start: %d left", left)
			}
			for _, begin := range []bool{false, true} {
				if left := table.StartEvery(tt.now, period, begin); left != tt.left {
					t.Errorf("StartEvery(begin %v) = %d, want %d", begin, left, tt.left)
				}
			}
			if tt.left == 0 { // the second start is the last one now
				if left := table.StartEvery(tt.now, period, false); left != period {
					t.Errorf("after the second start: %d left, want %d", left, period)
				}
			}
		})
	}
}

// Each waits as long as it has asked for, whatever others ask for.
func TestStartEveryOfSeveralPeriods(t *testing.T) {
	table := newWorld(t, 1).table
	table.StartEvery(Moment{5000, 10, 1}, 100, true)
	now := Moment{5050, 60, 1}
	for period, want := range map[int64]int64{1: 0, 50: 0, 51: 1, 100: 50, math.MaxInt64: math.MaxInt64 - 50} {
		if left := table.StartEvery(now, period, false); left != want {
			t.Errorf("with a period of %d: %d left, want %d", period, left, want)
		}
	}
}

// A clock that was set back delays the next start, and not for ever.
func TestStartEveryAfterClockWasSetBack(t *testing.T) {
	table := newWorld(t, 1).table
	table.StartEvery(Moment{Wall: 9000}, 100, true)
	if left := table.StartEvery(Moment{Wall: 1000}, 100, false); left != 100 {
		t.Errorf("set back by 8000: %d left, want 100", left)
	}
	if left := table.StartEvery(Moment{Wall: 1100}, 100, true); left != 0 {
		t.Errorf("100 later: %d left, want 0", left)
	}
}

// Whatever is in the words, nobody waits longer than the period.
func TestStartEveryOfDamagedFile(t *testing.T) {
	now := Moment{Wall: 5000, Up: 50, Boot: 1}
	words := []int64{math.MinInt64, -1, 0, 1, 49, 50, 51, 4999, 5000, 5001, math.MaxInt64}
	for _, wall := range words {
		for _, up := range words {
			for _, boot := range []uint64{0, 1, 2} {
				table := newWorld(t, 1).table
				table.started.wall.Store(wall)
				table.started.up.Store(up)
				table.started.boot.Store(boot)
				left := table.StartEvery(now, 100, false)
				if left < 0 || left > 100 {
					t.Errorf("wall %d, up %d, boot %d: %d left of 100", wall, up, boot, left)
				}
				now := Moment{now.Wall + left, now.Up + left, 1}
				if left := table.StartEvery(now, 100, true); left != 0 {
					t.Errorf("wall %d, up %d, boot %d: %d left after that", wall, up, boot, left)
				}
			}
		}
	}
}

// A process that dies while it notes a start leaves the last one, or its own.
func TestStartEveryNotedInPart(t *testing.T) {
	last, own := Moment{5000, 1000, 1}, Moment{7000, 3000, 1}
	steps := []func(s *start){
		func(s *start) { s.boot.Store(0) },
		func(s *start) { s.wall.Store(own.Wall) },
		func(s *start) { s.up.Store(own.Up) },
		func(s *start) { s.boot.Store(own.Boot) },
	}
	for done := range len(steps) + 1 {
		for _, now := range []Moment{{7100, 3100, 1}, {7100, 5, 2}, {7100, 0, 0}} {
			table := newWorld(t, 1).table
			table.started.note(last)
			for _, step := range steps[:done] {
				step(&table.started)
			}
			passed, _ := table.started.since(now)
			if passed != 2100 && passed != 100 || done > 1 && passed != 100 {
				t.Errorf("after %d steps, at %v: %d have passed since", done, now, passed)
			}
		}
	}
}
