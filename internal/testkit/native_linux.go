package testkit

import (
	"encoding/binary"
	"os"
	"strconv"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
)

// NeedGlibc skips a test where the libc of an engine is not glibc.
func NeedGlibc(t testing.TB, e semaphore.Engine) {
	t.Helper()
	if e == semaphore.EngineLibc && !testhook.Libc.Glibc {
		t.Skip("not in this build: glibc")
	}
}

// Words returns the value and the number of waiters, as they stand in the file of EngineNative.
func Words(t testing.TB, name string) (value, waiters uint32) {
	t.Helper()
	b, err := os.ReadFile(StoreFile(semaphore.EngineNative, name))
	Must(t, err)
	if strconv.IntSize == 32 {
		return binary.NativeEndian.Uint32(b) >> 1, binary.NativeEndian.Uint32(b[12:])
	}
	d := binary.NativeEndian.Uint64(b)
	return uint32(d), uint32(d >> 32)
}
