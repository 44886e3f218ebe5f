package command

import (
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/procsem/semaphore/internal/engine"
)

// list --prometheus prints what there is in Prometheus' text exposition format, version 0.0.4, for
// the textfile collector of node_exporter.

// A metric is a family of samples, one for each semaphore of which it is known.
type metric struct {
	name, help string
	value      func(s summary) (text string, known bool)
}

var metrics = []metric{
	{"procsem_limit_permits", "How many permits of a recoverable semaphore can be held at a time.", count(func(s summary) *int { return s.Limit })},
	{"procsem_free_permits", "How many permits are free.", count(func(s summary) *int { return s.Free })},
	{"procsem_holders", "How many handles hold permits of a recoverable semaphore.", count(func(s summary) *int { return s.Holders })},
	{"procsem_waiters", "How many handles wait for permits of a recoverable semaphore.", count(func(s summary) *int { return s.Waiting })},
	{"procsem_oldest_hold_seconds", "For how long the holder that began first has held, reckoned from when it opened the semaphore if it did not have to wait.", func(s summary) (string, bool) {
		return strconv.FormatFloat(s.Held.Seconds(), 'f', -1, 64), s.Held > 0
	}},
	{"procsem_readable", "Whether the semaphore could be read.", func(s summary) (string, bool) {
		return map[bool]string{true: "1", false: "0"}[s.Error == ""], true
	}},
}

func count(of func(summary) *int) func(summary) (string, bool) {
	return func(s summary) (string, bool) {
		n := of(s)
		return number(n), n != nil
	}
}

// oldestHold returns for how long the holder that began first has held, as of now; 0 if nobody holds.
func oldestHold(o engine.Observation, now time.Time) (held time.Duration) {
	for _, h := range o.Handles {
		if h.Permits == 0 {
			continue
		}
		held = max(held, now.Sub(heldSince(h)), time.Nanosecond)
	}
	return held
}

func writeMetrics(w io.Writer, list []summary) error {
	var text strings.Builder
	for _, m := range metrics {
		head := fmt.Sprintf("# HELP %s %s\n# TYPE %[1]s gauge\n", m.name, m.help)
		for _, s := range list {
			value, known := m.value(s)
			if !known {
				continue
			}
			fmt.Fprintf(&text, "%s%s{%s} %s\n", head, m.name, labels(s), value)
			head = ""
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// labels tell the semaphores apart. A label's value is Unicode, and the format has escapes only for three characters: what
// a terminal might obey is replaced. Two names could become the same by that, and a collector refuses a file that has
// two samples with the same labels: then there is name_base64 too. Nor may the lists of two directories, or stores, have the same.
func labels(s summary) string {
	text := fmt.Sprintf(`name="%s",kind="%s"`, labelValue(s.Name), s.Kind)
	if visible(s.Name) != s.Name {
		text += fmt.Sprintf(`,name_base64="%s"`, base64.StdEncoding.EncodeToString([]byte(s.Name)))
	}
	if directory != "" {
		text += fmt.Sprintf(`,dir="%s"`, labelValue(directory))
	}
	if cluster != nil {
		text += fmt.Sprintf(`,store="%s"`, labelValue(clusterBy))
	}
	return text
}

// visible returns a name with U+FFFD for what is not valid UTF-8, or cannot be printed; a line break is escaped later.
func visible(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, strings.ToValidUTF8(name, "\uFFFD"))
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func labelValue(s string) string {
	return labelEscapes.Replace(visible(s))
}
