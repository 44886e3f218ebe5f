//go:build unix

package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/store"
)

// The error of what is no regular file says what it is, in words.
func TestNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, err := range map[string]error{
		"a directory":     os.Mkdir(path("a directory"), 0o700),
		"a symbolic link": os.Symlink("absent", path("a symbolic link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
		f, err := store.OpenRegular(path(name))
		if err == nil {
			f.Close()
		}
		if want := path(name) + " is " + name + ", no regular file"; !errors.Is(err, engine.ErrCorrupt) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
