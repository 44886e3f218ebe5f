//go:build unix

package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/store"
	. "github.com/procsem/semaphore/internal/testkit"
)

// createAt is a creator that says when its file has its temporary name only, or, as after the
// link, its final one too, and goes on when it is told to.
func createAt(args []string) int {
	dir, name, linked := args[0], args[1], args[2] == "true"
	store.NoUnnamed()
	in := bufio.NewReader(os.Stdin)
	err := create(dir, name, func(f *os.File) error {
		if _, err := f.WriteString("whole"); err != nil {
			return err
		}
		if linked {
			if err := os.Link(f.Name(), filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		fmt.Println("made", f.Name())
		_, err := in.ReadString('\n')
		return err
	})
	fmt.Println("done", err)
	return 0
}

func create(dir, name string, fill func(*os.File) error) error {
	f, _, err := store.OpenOrPublish(dir, name, engine.CreateNew, nil, fill, &engine.Options{Mode: 0o600})
	if err == nil {
		err = filelock.Close(f)
	}
	return err
}

func files(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	Must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A later creator removes the temporary files of those that were killed, and of no other.
func TestTemporaryFilesOfKilledCreators(t *testing.T) {
	UseHelper("create-at")
	t.Cleanup(store.NoUnnamed())
	dir := t.TempDir()
	start := func(name string, linked bool) (a *Actor, temp string) {
		a = StartActorCommand(t, "create-at", Helper(t, "create-at", dir, name, fmt.Sprint(linked)))
		answer := a.Answer()
		if _, err := fmt.Sscanf(answer, "made %s", &temp); err != nil {
			t.Fatalf("%q: %v", answer, err)
		}
		return a, temp
	}
	living, itsFile := start("living", false)
	// Others' files: nothing says that the lock is what their creators use.
	Must(t, os.WriteFile(filepath.Join(dir, "tmp.1.2"), nil, 0o600))
	for _, linked := range []bool{false, true} {
		killed, temp := start(fmt.Sprint("killed-", linked), linked)
		Must(t, killed.Cmd.Process.Kill())
		killed.Cmd.Wait()
		if _, err := os.Lstat(temp); err != nil {
			t.Fatal(err) // else this test would be in vain
		}
	}
	Must(t, create(dir, "later", store.Filled([]byte("whole"))))
	got, want := fmt.Sprint(files(t, dir)), fmt.Sprint([]string{"killed-true", "later", "tmp.1.2", filepath.Base(itsFile)})
	if got != want {
		t.Errorf("after a later creation: %v, want %v", got, want)
	}
	living.Send("go on")
	if got := living.Answer(); got != "done <nil>" {
		t.Errorf("the creator that lived: %s", got)
	}
	got, want = fmt.Sprint(files(t, dir)), "[killed-true later living tmp.1.2]"
	if got != want {
		t.Errorf("at the end: %v, want %v", got, want)
	}
	for _, name := range []string{"killed-true", "later", "living"} {
		if content, err := os.ReadFile(filepath.Join(dir, name)); string(content) != "whole" {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
}

// A creator may lose its file to another one before it has the lock. It starts again.
func TestCreatorsSweepEachOther(t *testing.T) {
	t.Cleanup(store.NoUnnamed())
	dir := t.TempDir()
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range Times(200) {
				name := fmt.Sprint("x", g, "-", i)
				if err := create(dir, name, store.Filled([]byte("whole"))); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if err := store.Remove(filepath.Join(dir, name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// However many temporary files another user makes, a creator removes those of its own user's.
func TestStrangersTemporaryFiles(t *testing.T) {
	NeedRoot(t)
	t.Cleanup(store.NoUnnamed())
	dir := t.TempDir()
	for range 300 { // read in no order, so that some come before ours
		f, err := store.OpenTemporary(dir, 0o600)
		Must(t, err)
		Must(t, f.Chown(OtherUser, OtherUser))
		Must(t, filelock.Close(f))
	}
	f, err := store.OpenTemporary(dir, 0o600)
	Must(t, err)
	Must(t, filelock.Close(f))
	Must(t, create(dir, "later", store.Filled([]byte("whole"))))
	if _, err := os.Lstat(f.Name()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of a creator of this user: %v", err)
	}
	if left := len(files(t, dir)); left != 301 {
		t.Errorf("%d files, want the other user's 300 and the new one", left)
	}
}
