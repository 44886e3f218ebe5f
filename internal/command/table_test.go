package command

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	tab := &table{}
	for _, row := range [][]string{{"a", "b"}, {"long", "c", "d"}, {"more of it"}, nil, {"x", "日本", "z"}, {"", "y", "w"}, {"é", "", ""}} {
		tab.row(row...)
	}
	for width, want := range map[int][]string{
		0: {"a     b", "long  c  d", "more of it", "", "x  日本  z", "   y     w", "é"},
		8: {"a     b", "long  c…", "more of…", "", "x  日本…", "   y   …", "é"},
		1: {"…", "…", "…", "", "…", "…", "é"},
	} {
		if got := tab.lines(width); !slices.Equal(got, want) {
			t.Errorf("width %d:\n%s\nwant\n%s", width, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if got := (&table{}).lines(10); got != nil {
		t.Errorf("an empty table: %q", got)
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		s     string
		width int
		want  string
	}{
		{"abc", 0, "abc"}, {"abc", 3, "abc"}, {"abc", 2, "a…"}, {"abc", 1, "…"}, {"", 1, ""},
		{"日本語", 6, "日本語"}, {"日本語", 5, "日本…"}, {"日本語", 4, "日…"}, {"a⌚✅⭐", 7, "a⌚✅⭐"}, {"a⌚✅⭐", 6, "a⌚✅…"}, {"a⌚✅⭐", 4, "a⌚…"}, {"→•✓—", 4, "→•✓—"}, {"e\u0301e\u0301e\u0301", 2, "e\u0301…"},
	} {
		if got := cut(tt.s, tt.width); got != tt.want || tt.width > 0 && columnsOf(got) > tt.width {
			t.Errorf("cut(%q, %d) = %q, want %q", tt.s, tt.width, got, tt.want)
		}
	}
}

func TestSpell(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 999 * time.Nanosecond: "999ns", 12345 * time.Microsecond: "12ms", 1234 * time.Millisecond: "1.2s", 12345 * time.Millisecond: "12s",
		60 * time.Second: "1m", 185 * time.Second: "3m5s", time.Hour: "1h", time.Hour + 59*time.Second: "1h", time.Hour + 10*time.Minute: "1h10m",
		24 * time.Hour: "1d", 25*time.Hour + 59*time.Minute: "1d1h", 100 * time.Second: "1m40s", 20 * time.Hour: "20h", 600 * time.Second: "10m", 48*time.Hour + time.Minute: "2d",
	} {
		if got := spell(d); got != want {
			t.Errorf("spell(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestNumbersText(t *testing.T) {
	many := []int{0, 2, 4, 6, 8, 10, 12, 14, 16}
	for _, tt := range []struct {
		numbers []int
		want    string
	}{{nil, "-"}, {[]int{0}, "0"}, {[]int{0, 3}, "0,3"}, {[]int{0, 1, 2, 7}, "0-2,7"}, {many, "0,… (9)"}} {
		if got := numbersText(tt.numbers); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.numbers, got, tt.want)
		}
	}
}

// show prints the command that procsem run was called with, and not what is procsem's own.
func TestCommandIn(t *testing.T) {
	for line, want := range map[string]string{
		"procsem run build make -j2":                     "make -j2",
		"/usr/bin/procsem run -n 4 -w5 build -- make -n": "make -n",
		"procsem.exe run -Fo --label x build make":       "make",
		"procsem run -c make build":                      "make",
		"procsem run build -c make":                      "make",
		"procsem run --every 1h build make":              "make",
		"procsem --dir d run build make":                 "make",
		"procsem --dir=d --dir e run --dir f build make": "make",
		"procsem run build make --dir d":                 "make --dir d",
		"procsem --dir run build make":                   "",
		"procsem --dir":                                  "",
		"procsem run build":                              "",
		"procsem run -z build make":                      "",
		"procsem run":                                    "",
		"procsem lock --fd 9 build":                      "",
		"make run build make":                            "",
		"":                                               "",
	} {
		words, every := commandIn(strings.Fields(line))
		if got := strings.Join(words, " "); got != want || (words == nil) != (want == "") || every != strings.Contains(line, "--every") {
			t.Errorf("%s: %q, %v, want %q", line, words, every, want)
		}
	}
	// A command that was started late has not held since its semaphore was opened.
	now := time.Now()
	late := handle{Opened: now.Add(-time.Hour), atOnce: true, Child: &process{Started: now.Add(-time.Minute)}, Run: "make"}
	if got := late.held(); got != "1m" {
		t.Errorf("--every: HELD %s, want 1m", got)
	}
	late.Child, late.atOnce = nil, false
	if got := late.held(); got != "<1h1s" && got != "<1h" {
		t.Errorf("--every: HELD %s, want a bound of an hour", got)
	}
}
