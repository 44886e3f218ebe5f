//go:build unix

package store_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/store"
	. "github.com/procsem/semaphore/internal/testkit"
)

// A file that others could open before its mode was narrowed is none that they know of later:
// it is not the one that gets the semaphore's name.
func TestNarrowedFileIsAnother(t *testing.T) {
	for _, tt := range []struct {
		umask      int
		mode, want fs.FileMode
		forced     fs.FileMode // the filesystem's own idea, if it has one
		asked      []fs.FileMode
	}{
		{0, 0o666, 0o666, 0, []fs.FileMode{0o666}},
		{0o077, 0o666, 0o600, 0, []fs.FileMode{0o666}},
		{0, 0o644, 0o600, 0, []fs.FileMode{0o600}}, // never readable, not even for a moment
		{0o022, 0o666, 0o600, 0, []fs.FileMode{0o666, 0o600}},
		{0o002, 0o666, 0o660, 0, []fs.FileMode{0o666, 0o660}},
		{0, 0o666, 0o755, 0o755, []fs.FileMode{0o666, 0o711}},
	} {
		t.Run(fmt.Sprintf("%04o_%04o", tt.umask, uint32(tt.mode|tt.forced)), func(t *testing.T) {
			dir := t.TempDir()
			var asked []fs.FileMode
			var made, dropped []string
			old := syscall.Umask(tt.umask)
			defer syscall.Umask(old)
			f, err := store.OpenNarrowed(tt.mode, func(mode fs.FileMode) (*os.File, error) {
				asked = append(asked, mode)
				path := filepath.Join(dir, fmt.Sprint(len(asked)))
				made = append(made, path)
				f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
				if err == nil && tt.forced != 0 {
					err = f.Chmod(tt.forced)
				}
				return f, err
			}, func(f *os.File) {
				dropped = append(dropped, f.Name())
				f.Close()
			})
			Must(t, err)
			defer f.Close()
			if !slices.Equal(asked, tt.asked) {
				t.Errorf("asked for %o, want %o", asked, tt.asked)
			}
			if last := len(made) - 1; f.Name() != made[last] || !slices.Equal(dropped, made[:last]) {
				t.Errorf("made %v: dropped %v, and got %s", made, dropped, f.Name())
			}
			info, err := f.Stat()
			Must(t, err)
			if got := info.Mode(); got != tt.want {
				t.Errorf("mode %#o, want %#o", uint32(got), uint32(tt.want))
			}
		})
	}
}

// By either way of making files, what is written into a new one no reader sees, and of one that
// was dropped nothing is left.
func TestNewFileIsNarrowBeforeItIsFilled(t *testing.T) {
	for _, unnamed := range []bool{true, false} {
		t.Run(fmt.Sprintf("unnamed_%v", unnamed), func(t *testing.T) {
			if !unnamed {
				t.Cleanup(store.NoUnnamed())
			}
			dir := t.TempDir()
			old := syscall.Umask(0o022)
			defer syscall.Umask(old)
			f, _, err := store.OpenOrPublish(dir, "new", engine.CreateNew, nil, func(f *os.File) error {
				info, err := f.Stat()
				if err == nil && info.Mode() != 0o600 {
					t.Errorf("while it is filled: mode %#o, want 0600", uint32(info.Mode()))
				}
				return err
			}, &engine.Options{Mode: 0o666})
			Must(t, err)
			defer filelock.Close(f)
			info, err := f.Stat()
			Must(t, err)
			if info.Mode() != 0o600 {
				t.Errorf("mode %#o, want 0600", uint32(info.Mode()))
			}
			if got := files(t, dir); !slices.Equal(got, []string{"new"}) {
				t.Errorf("the directory has %v, want the new file alone", got)
			}
		})
	}
}
