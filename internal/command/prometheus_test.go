//go:build unix || windows

package command

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/procsem/semaphore/internal/engine"
)

// The text, byte by byte.
func TestPrometheusText(t *testing.T) {
	n := func(i int) *int { return &i }
	list := []summary{
		{Name: "a\\b\"c\nd", Kind: kindRecoverable, Limit: n(4), Free: n(1), Holders: n(2), Waiting: n(0), Held: 1500 * time.Millisecond},
		{Name: "p", Kind: kindPOSIX, Free: n(7)},
		{Name: "x\xff", Base64: "eP8=", Kind: kindFlock, Error: "bad"},
		{Name: "x\x1b", Kind: kindFlock, Error: "bad"}, // a terminal obeys it
		{Name: "x\u202e", Kind: kindFlock, Error: "bad"},
		{Name: "x\ufffd", Kind: kindFlock, Error: "bad"}, // as it is
	}
	var text strings.Builder
	if err := writeMetrics(&text, list); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, "# HELP ") {
			lines = append(lines, line)
		}
	}
	want := []string{
		"# TYPE procsem_limit_permits gauge\n",
		`procsem_limit_permits{name="a\\b\"c\nd",kind="recoverable"} 4` + "\n",
		"# TYPE procsem_free_permits gauge\n",
		`procsem_free_permits{name="a\\b\"c\nd",kind="recoverable"} 1` + "\n",
		`procsem_free_permits{name="p",kind="posix"} 7` + "\n",
		"# TYPE procsem_holders gauge\n",
		`procsem_holders{name="a\\b\"c\nd",kind="recoverable"} 2` + "\n",
		"# TYPE procsem_waiters gauge\n",
		`procsem_waiters{name="a\\b\"c\nd",kind="recoverable"} 0` + "\n",
		"# TYPE procsem_oldest_hold_seconds gauge\n",
		`procsem_oldest_hold_seconds{name="a\\b\"c\nd",kind="recoverable"} 1.5` + "\n",
		"# TYPE procsem_readable gauge\n",
		`procsem_readable{name="a\\b\"c\nd",kind="recoverable"} 1` + "\n",
		`procsem_readable{name="p",kind="posix"} 1` + "\n",
		`procsem_readable{name="x�",kind="flock",name_base64="eP8="} 0` + "\n",
		`procsem_readable{name="x�",kind="flock",name_base64="eBs="} 0` + "\n",
		`procsem_readable{name="x�",kind="flock",name_base64="eOKArg=="} 0` + "\n",
		`procsem_readable{name="x�",kind="flock"} 0` + "\n",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%q\nwant\n%q", lines, want)
	}
	text.Reset()
	if err := writeMetrics(&text, nil); err != nil || text.Len() > 0 {
		t.Errorf("of nothing: %q, %v", text.String(), err)
	}
}

// JSON has nothing that a terminal obeys, and what a parser reads is what was written.
func TestJSONForTerminals(t *testing.T) {
	const block = 0x100
	for first := rune(0); first <= unicode.MaxRune; first += block {
		var all strings.Builder
		for r := first; r < first+block; r++ {
			all.WriteRune(r) // U+FFFD of surrogates
		}
		want := map[string]string{"a<&>" + all.String(): "b" + all.String()}
		var text strings.Builder
		if err := writeJSON(&text, want); err != nil {
			t.Fatal(err)
		}
		if i := strings.IndexFunc(text.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Fatalf("%U: %q is written as it is", first, text.String()[i:])
		}
		var got map[string]string
		if err := json.Unmarshal([]byte(text.String()), &got); err != nil || !maps.Equal(got, want) {
			t.Fatalf("%U: read %q, %v, want %q", first, got, err, want)
		}
	}
}

// The oldest hold is that of the holder which began first; waiters and the times of what was given back don't count.
func TestOldestHold(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	handle := func(permits int, opened, since time.Duration) engine.ObservedHandle {
		h := engine.Holder{Permits: permits, Opened: ago(opened), Waiting: permits == 0}
		if since != 0 {
			h.Since = ago(since)
		}
		return engine.ObservedHandle{Holder: h}
	}
	for _, tt := range []struct {
		what    string
		handles []engine.ObservedHandle
		want    time.Duration
	}{
		{"nobody", nil, 0},
		{"a waiter", []engine.ObservedHandle{handle(0, time.Hour, 0)}, 0},
		{"one that waited", []engine.ObservedHandle{handle(1, time.Hour, time.Minute)}, time.Minute},
		{"one that did not wait", []engine.ObservedHandle{handle(1, time.Hour, 0)}, time.Hour},
		{"several", []engine.ObservedHandle{handle(1, time.Hour, time.Minute), handle(2, 2*time.Minute, 0), handle(0, 2*time.Hour, 0)}, 2 * time.Minute},
		{"the clock was set back", []engine.ObservedHandle{handle(1, -time.Hour, 0)}, time.Nanosecond},
	} {
		if got := oldestHold(engine.Observation{Handles: tt.handles}, now); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
	}
}
