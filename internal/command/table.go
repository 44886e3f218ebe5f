package command

import (
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// A table is rows of cells, in blocks between which there is an empty row. Columns are aligned within a
// block; what is in the last cell of a row makes its column no wider.
type table struct{ rows [][]string }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// lines returns the rows as text, none of them wider than that, if width is not 0.
func (t *table) lines(width int) (lines []string) {
	for rest := t.rows; len(rest) > 0; {
		n := 0
		for n < len(rest) && len(rest[n]) > 0 {
			n++
		}
		lines = append(lines, aligned(rest[:n], width)...)
		if n < len(rest) {
			lines = append(lines, "")
			n++
		}
		rest = rest[n:]
	}
	return lines
}

func aligned(block [][]string, width int) (lines []string) {
	var widths []int
	for _, cells := range block {
		for i := range len(cells) - 1 {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], columnsOf(cells[i]))
		}
	}
	for _, cells := range block {
		var b strings.Builder
		for i, cell := range cells {
			b.WriteString(cell)
			if i < len(cells)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-columnsOf(cell)+2))
			}
		}
		lines = append(lines, cut(strings.TrimRight(b.String(), " "), width))
	}
	return lines
}

// writeTable aligns the columns of the rows that rows writes, and cuts them to a width, 0 for none.
func writeTable(w io.Writer, width int, rows func(row func(cells ...string))) error {
	t := &table{}
	rows(t.row)
	var b strings.Builder
	for _, line := range t.lines(width) {
		b.WriteString(line + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cut shortens a text to at most so many columns of a terminal; 0 is no bound. The last one then says that
// there is more.
func cut(s string, width int) string {
	if width <= 0 || columnsOf(s) <= width {
		return s
	}
	n := 0
	for i, r := range s {
		if n += columns(r); n > width-1 {
			return s[:i] + "…"
		}
	}
	return s
}

// columnsOf returns how many columns of a terminal a text takes.
func columnsOf(s string) (n int) {
	for _, r := range s {
		n += columns(r)
	}
	return n
}

// wide are the blocks of characters that terminals show in two columns, and the emoji among those that they show in
// one.
var wide = [][2]rune{
	{0x1100, 0x115f}, {0x231a, 0x231b}, {0x23e9, 0x23ec}, {0x23f0, 0x23f0}, {0x23f3, 0x23f3}, {0x25fd, 0x25fe}, {0x2614, 0x2615}, {0x2648, 0x2653},
	{0x267f, 0x267f}, {0x2693, 0x2693}, {0x26a1, 0x26a1}, {0x26aa, 0x26ab}, {0x26bd, 0x26be}, {0x26c4, 0x26c5}, {0x26ce, 0x26ce}, {0x26d4, 0x26d4},
	{0x26ea, 0x26ea}, {0x26f2, 0x26f3}, {0x26f5, 0x26f5}, {0x26fa, 0x26fa}, {0x26fd, 0x26fd}, {0x2705, 0x2705}, {0x270a, 0x270b}, {0x2728, 0x2728},
	{0x274c, 0x274c}, {0x274e, 0x274e}, {0x2753, 0x2755}, {0x2757, 0x2757}, {0x2795, 0x2797}, {0x27b0, 0x27b0}, {0x27bf, 0x27bf}, {0x2b1b, 0x2b1c},
	{0x2b50, 0x2b50}, {0x2b55, 0x2b55}, {0x2e80, 0xa4cf}, {0xac00, 0xd7a3}, {0xf900, 0xfaff}, {0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6},
	{0x1f300, 0x1faff}, {0x20000, 0x3fffd},
}

func columns(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	for _, block := range wide {
		if block[0] <= r && r <= block[1] {
			return 2
		}
	}
	return 1
}

// sizeOf returns the size of the terminal that a stream is; ok is false if it is none.
func sizeOf(stream any) (width, height int, ok bool) {
	f, isFile := stream.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, 0, false
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 || height <= 0 { // of a serial line, say
		width, height = 80, 24
	}
	return width, height, true
}
