package names

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// On Windows names of files ignore case, do not end in a dot or a space, and must not
// contain some characters. So lower-case letters, digits, "-", "_" and "." (except at the
// end) stand for themselves, and each other byte becomes %XX.

func plain(name string, i int) bool {
	switch c := name[i]; {
	case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		return true
	case c == '.':
		return i < len(name)-1
	}
	return false
}

func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if plain(name, i) {
			b.WriteByte(name[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", name[i])
		}
	}
	return b.String()
}

// unescape returns the name that escape was given; ok is false if escape returns no such
// file name.
func unescape(file string) (name string, ok bool) {
	var b []byte
	for i := 0; i < len(file); i++ {
		if file[i] != '%' {
			b = append(b, file[i])
			continue
		}
		if i+3 > len(file) {
			return "", false
		}
		c, err := hex.DecodeString(file[i+1 : i+3])
		if err != nil {
			return "", false
		}
		b = append(b, c...)
		i += 2
	}
	name = string(b)
	return name, escape(name) == file
}
