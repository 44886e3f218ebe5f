//go:build linux && (amd64 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package semaphore

type glibcWords = words64

const (
	glibcSize      = 32
	glibcOtherSize = 16 // of a 32-bit program's
	glibcPrivateAt = 8
)
