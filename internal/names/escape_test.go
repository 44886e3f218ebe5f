package names

import (
	"strings"
	"testing"
)

func TestEscape(t *testing.T) {
	for name, want := range map[string]string{
		"build-4_x.y": "build-4_x.y",
		"Build":       "%42uild",
		"a.":          "a%2E",
		"...":         "..%2E",
		"a ":          "a%20",
		`<>:"\|?*`:    "%3C%3E%3A%22%5C%7C%3F%2A",
		"\x01%":       "%01%25",
		"\u00e4":      "%C3%A4",
		"con":         "con", // the file's name has a prefix before it
		"\xff":        "%FF",
		"%41":         "%2541",
	} {
		got := escape(name)
		if got != want {
			t.Errorf("escape(%q) = %q, want %q", name, got, want)
		}
		if back, ok := unescape(got); back != name || !ok {
			t.Errorf("unescape(%q) = %q, %v, want %q", got, back, ok, name)
		}
	}
	for _, file := range []string{"A", "%", "%4", "%4g", "%61", "%c3", "a.", "a b", "%C3%a4"} {
		if name, ok := unescape(file); ok {
			t.Errorf("unescape(%q) = %q; it is no file's name", file, name)
		}
	}
}

// Different names have different files, even where case is ignored, and a name may
// contain any byte.
func TestEscapeKeepsApart(t *testing.T) {
	seen := make(map[string]string)
	for a := range 256 {
		for _, name := range []string{string([]byte{byte(a)}), string([]byte{byte(a), '.'}), string([]byte{'.', byte(a)})} {
			file := strings.ToLower(escape(name))
			if other, ok := seen[file]; ok && other != name {
				t.Errorf("%q and %q are both %q", name, other, file)
			}
			seen[file] = name
			if strings.ContainsAny(file, `<>:"/\|?* `) || strings.HasSuffix(file, ".") {
				t.Errorf("%q is %q, which is no name for a file", name, file)
			}
			if back, ok := unescape(escape(name)); back != name || !ok {
				t.Errorf("%q comes back as %q, %v", name, back, ok)
			}
		}
	}
}
