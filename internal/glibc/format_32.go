//go:build linux && (386 || arm || mips || mipsle)

package semaphore

type glibcWords = words32

const (
	glibcSize      = 16
	glibcOtherSize = 32 // of a 64-bit program's
	glibcPrivateAt = 4
)
