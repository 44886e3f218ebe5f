package semaphore

import (
	"runtime"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/testhook"
)

// onWindows: names are Unicode, and may have a namespace.
const onWindows = runtime.GOOS == "windows"

// maxName is the longest name in bytes, without the leading slash. On Linux
// it is NAME_MAX less glibc's prefix "sem."; our own files have prefixes of
// the same length. On macOS it is PSEMNAMLEN (31) less the slash and a NUL, which
// the kernel counts. On Windows, in UTF-16, MAX_PATH (260), which Microsoft names as
// the limit, less the NUL: kernels take more, but not from the functions for 8-bit
// names.
func maxName() int {
	if testhook.MaxName != 0 {
		return testhook.MaxName
	}
	switch runtime.GOOS {
	case "darwin", "ios":
		return 29
	case "windows":
		return 259
	}
	return 251
}

// CheckName reports whether name can name a semaphore on this system. The
// rule is the same everywhere: one leading slash is optional and means
// nothing; then come 1 to N bytes, with no slash and no NUL among them, that
// are not "." or "..". N is 251 on Linux, 29 on macOS, 259 (MAX_PATH less a NUL,
// in UTF-16 units) on Windows and 251 elsewhere: portable programs stay within 29
// bytes. On Windows backslashes are those of a prefix Global\ or Local\ only. The error
// is [ErrInvalidName] and names the rule that was broken.
func CheckName(name string) error {
	_, err := cleanName("checkname", name)
	return err
}

// cleanName returns name without its leading slash.
func cleanName(op, name string) (string, error) {
	clean := strings.TrimPrefix(name, "/")
	length, unit := nameLength(clean)
	own := withoutNamespace(clean)
	var err error
	switch {
	case own == "":
		err = engine.Because(ErrInvalidName, "it is empty; allowed are 1 to %d %s", maxName(), unit)
	case own == "." || own == "..":
		err = engine.Because(ErrInvalidName, "%q means a directory", own)
	case strings.Contains(own, "/"):
		err = engine.Because(ErrInvalidName, "it contains a slash; only one leading slash is allowed")
	case strings.Contains(own, "\x00"):
		err = engine.Because(ErrInvalidName, "it contains a NUL byte")
	case length > maxName():
		err = engine.Because(ErrInvalidName, "it has %d %s; at most %d are allowed", length, unit, maxName())
	default:
		if err = checkSystemName(own); err == nil {
			return clean, nil
		}
	}
	return "", &Error{Op: op, Name: name, Err: err}
}

// nameLength returns how long a name is, and in what units that is counted.
func nameLength(name string) (n int, unit string) {
	if !onWindows {
		return len(name), "bytes"
	}
	for _, r := range name {
		n += utf16.RuneLen(r)
	}
	return n, "UTF-16 units"
}

// withoutNamespace returns what follows the namespace of kernel objects. The kernel
// tells its upper from its lower case.
func withoutNamespace(name string) string {
	for _, namespace := range []string{`Global\`, `Local\`} {
		if own, ok := strings.CutPrefix(name, namespace); ok && onWindows {
			return own
		}
	}
	return name
}

func checkSystemName(own string) error {
	switch {
	case !onWindows:
	case strings.Contains(own, `\`):
		return engine.Because(ErrInvalidName, `it contains a backslash; on Windows only those of a prefix Global\ or Local\ are allowed`)
	case !utf8.ValidString(own):
		// Two names could become one in UTF-16.
		return engine.Because(ErrInvalidName, "it is not valid UTF-8, and names on Windows are Unicode")
	}
	return nil
}
