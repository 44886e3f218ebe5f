package semaphore

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

func nameLength(name string) (n int, unit string) {
	for _, r := range name {
		n += utf16.RuneLen(r)
	}
	return n, "UTF-16 units"
}

// withoutNamespace returns what follows the namespace of kernel objects. The kernel
// tells its upper from its lower case.
func withoutNamespace(name string) string {
	for _, namespace := range []string{`Global\`, `Local\`} {
		if own, ok := strings.CutPrefix(name, namespace); ok {
			return own
		}
	}
	return name
}

func checkSystemName(own string) error {
	if strings.Contains(own, `\`) {
		return because(ErrInvalidName, `it contains a backslash; on Windows only those of a prefix Global\ or Local\ are allowed`)
	}
	if !utf8.ValidString(own) {
		// Two names could become one in UTF-16.
		return because(ErrInvalidName, "it is not valid UTF-8, and names on Windows are Unicode")
	}
	return nil
}
