package racesync

import (
	"os"
	"path/filepath"
	"testing"
	"unsafe"
)

// To the race detector a semaphore is the same by all paths of its directory, and another one in another
// directory.
func TestRaceDetectorKnowsDirectories(t *testing.T) {
	temporary := func() string {
		dir, err := os.MkdirTemp("", "semaphore-test-") // whose removal by t.TempDir fails under Wine
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(dir) })
		return dir
	}
	dir, other := temporary(), temporary()
	x := New("flock", dir, "x")
	if again := New("flock", filepath.Join(other, "..")+string(filepath.Separator)+filepath.Base(dir)+string(filepath.Separator)+".", "x"); again != x {
		t.Error("two paths of a directory are two semaphores")
	}
	if unsafe.Sizeof(x) == 0 {
		return // without the detector nothing can differ
	}
	for what, another := range map[string]Sync{
		"another directory's": New("flock", other, "x"),
		"that of none":        New("flock", "", "x"),
		"of another name":     New("flock", dir, "y"),
		"of another engine":   New("recoverable", dir, "x"),
	} {
		if another == x {
			t.Errorf("a semaphore %s is the same", what)
		}
	}
}
