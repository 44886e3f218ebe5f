package engine

import "io/fs"

// BothOrNeither takes from a mode what lets the group, or others, only read or only write.
// Using a semaphore takes both rights. A user that may only read its file could not use it,
// but lock it or its bytes, by which it keeps others from opening or giving, and take their
// wake-ups.
func BothOrNeither(mode fs.FileMode) fs.FileMode {
	for _, both := range []fs.FileMode{0o060, 0o006} {
		if mode&both != both {
			mode &^= both
		}
	}
	return mode
}
