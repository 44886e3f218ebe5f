package command

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/names"
	"github.com/spf13/cobra"
)

// A summary is a line of list. Its JSON fields are documented (listHelp) and
// stay as they are.
type summary struct {
	Name    string `json:"name"`
	Base64  string `json:"name_base64,omitempty"` // see base64Of
	Kind    string `json:"kind"`
	Limit   *int   `json:"limit"` // nil: not known
	Free    *int   `json:"free"`
	Holders *int   `json:"holders"`
	Waiting *int   `json:"waiting"`
	Error   string `json:"error,omitempty"`

	Held time.Duration `json:"-"` // see oldestHold
}

// listed are the engines of the semaphores that list finds, by the prefixes of their
// files' names.
var listed = map[string]semaphore.Engine{
	names.Recoverable: semaphore.EngineRecoverable,
	names.Flock:       semaphore.EngineFlock,
	names.Glibc:       semaphore.EngineNative,
}

func (inv *invocation) list(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError(cmd.CommandPath(), "%q: no argument is allowed; procsem show NAME shows one semaphore", args[0])
	}
	if isSet(cmd, jsonFlag) && isSet(cmd, metricsFlag) {
		return usageError(cmd.CommandPath(), "--json and --prometheus; one of them is allowed")
	}
	if err := wrongDir(cmd); err != nil {
		return err
	}
	lines, err := summaries()
	if err != nil {
		return err
	}
	switch {
	case isSet(cmd, jsonFlag):
		return writeJSON(inv.stdout, lines)
	case isSet(cmd, metricsFlag):
		return writeMetrics(inv.stdout, lines)
	}
	return writeTable(inv.stdout, 0, func(row func(cells ...string)) { listRows(lines, row) })
}

// listRows makes the table of a list.
func listRows(lines []summary, row func(cells ...string)) {
	row("NAME", "KIND", "LIMIT", "FREE", "HOLDERS", "WAITING")
	for _, l := range lines {
		cells := []string{printable(l.Name), l.Kind, number(l.Limit), number(l.Free), number(l.Holders), number(l.Waiting)}
		if l.Error != "" {
			cells = append(cells, printable(l.Error))
		}
		row(cells...)
	}
}

// summaries describes all semaphores, in the order of their names.
func summaries() ([]summary, error) {
	if cluster != nil {
		return storedSummaries()
	}
	files, err := storedFiles()
	if err != nil {
		return nil, err
	}
	lines := []summary{} // not nil, which is null in JSON
	for _, f := range files {
		line, err := summarize(f)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // unlinked since
		case err != nil:
			line.Error = reason(err)
		}
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b summary) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return lines, nil
}

// summarize describes the semaphore in a file that has the name of one.
func summarize(f names.File) (summary, error) {
	e := listed[f.Prefix]
	line := summary{Name: f.Name, Base64: base64Of(f.Name), Kind: kindOfEngine(e)}
	eng := observer(e)
	if eng == nil {
		return line, &failure{statusUnavailable, errors.New("semaphores of this kind are not in this build")}
	}
	o, err := observeIn(eng, f.Name)
	if err != nil {
		return line, err
	}
	line.counts(observation{o, line.Kind, line.Name})
	return line, nil
}

// counts notes what is seen of a semaphore.
func (line *summary) counts(o observation) {
	line.Free = &o.Value
	if !o.Recoverable {
		return
	}
	holders, waiting := o.count()
	line.Limit, line.Holders, line.Waiting = &o.Limit, &holders, &waiting
	line.Held = oldestHold(o.Observation, time.Now())
}

func number(n *int) string {
	if n == nil {
		return "-"
	}
	return strconv.Itoa(*n)
}

// reason is the text of an error without the operation and the semaphore's name: the
// error's line in the list begins with the name.
func reason(err error) string {
	return strings.TrimPrefix(inWords.Replace(reasonOf(err).Error()), "semaphore: ")
}

func reasonOf(err error) error {
	var e *semaphore.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// printable quotes a text that others have chosen, such as a name, if it has
// characters that a terminal might obey instead of showing them.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return strconv.Quote(s)
	}
	return s
}

// base64Of returns a name in base64 if JSON, whose texts are Unicode, cannot have it as it
// is, else "". The flag --base64 takes it back.
func base64Of(name string) string {
	if utf8.ValidString(name) {
		return ""
	}
	return base64.StdEncoding.EncodeToString([]byte(name))
}

// writeJSON writes a value. Other users have chosen some of its texts, and who writes it to a terminal must not have
// that obey them.
func writeJSON(w io.Writer, v any) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(escaped(text.Bytes()))
	return err
}

// escaped returns the JSON with escapes (\u and four digits) for what is not printable in its texts and what encoding/json leaves as it is:
// DEL, the control characters from U+0080 on, and those that change the direction or are invisible. Outside of texts there is
// none of them, so the value is the same.
func escaped(text []byte) []byte {
	var b []byte
	for _, r := range string(text) { // valid UTF-8
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return b
}
