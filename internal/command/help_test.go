//go:build unix || windows

package command

import (
	"strings"
	"testing"
)

// What --help prints fits a terminal of 80 columns, and has all words of the texts in their order.
func TestHelpFits(t *testing.T) {
	root := newRoot(&invocation{})
	for _, cmd := range append(root.Commands(), root) {
		var b strings.Builder
		cmd.SetOut(&b)
		cmd.InitDefaultHelpFlag()
		printHelp(cmd, nil)
		for line := range strings.Lines(b.String()) {
			if columnsOf(strings.TrimSuffix(line, "\n")) > helpWidth {
				t.Errorf("%s: %q has more than %d columns", cmd.CommandPath(), line, helpWidth)
			}
		}
		if words := strings.Join(strings.Fields(b.String()), " "); !strings.Contains(words, strings.Join(strings.Fields(cmd.Long), " ")) {
			t.Errorf("%s: the text is not in the help:\n%s", cmd.CommandPath(), b.String())
		}
		// What is indented keeps its lines only in paragraphs of its own.
		for _, p := range strings.Split(cmd.Long, "\n\n") {
			if !strings.HasPrefix(p, indent) && strings.Contains(p, "\n ") {
				t.Errorf("%s: an indented line within a paragraph:\n%s", cmd.CommandPath(), p)
			}
		}
	}
}

// The options that most people need come first.
func TestHelpBeginsWithCommonOptions(t *testing.T) {
	run, _, err := newRoot(&invocation{}).Find([]string{"run"})
	if err != nil {
		t.Fatal(err)
	}
	var order string
	for line := range strings.Lines(run.Flags().FlagUsages()) {
		if option, _, short := strings.Cut(strings.TrimSpace(line), ","); short && strings.HasPrefix(option, "-") {
			order += option[1:]
		}
	}
	if !strings.HasPrefix(order, "njkwEcvq") {
		t.Errorf("the options' order is %s", order)
	}
}

func TestFilled(t *testing.T) {
	a := func(n int) string { return strings.Repeat("a", n) }
	for _, tt := range []struct{ text, want string }{
		{"one\ntwo", "one two"},
		{a(40) + " " + a(39), a(40) + " " + a(39)},
		{a(40) + " " + a(40), a(40) + "\n" + a(40)},
		{a(81) + " b", a(81) + "\nb"}, // a word is not broken
		{"64 - " + a(75) + " " + a(75) + " b", "64 - " + a(75) + "\n     " + a(75) + "\n     b"},
		{"128+N - " + a(70) + " " + a(70), "128+N - " + a(70) + "\n        " + a(70)},
		{indent + a(90), indent + a(90)},
		{"x\n\n" + indent + "y\n" + indent + "  z", "x\n\n" + indent + "y\n" + indent + "  z"},
	} {
		if got := filled(tt.text); got != tt.want {
			t.Errorf("filled(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}
