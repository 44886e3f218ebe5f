//go:build linux || windows

package command

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// lineOn waits for a line of procsem's that matches.
func lineOn(t *testing.T, said *lines, pattern string) {
	t.Helper()
	if got := said.read(t); !regexp.MustCompile("^" + pattern + "$").MatchString(got) {
		t.Fatalf("read %q, want a match of %s", got, pattern)
	}
}

// of returns those of the lines that name something.
func (l *lines) of(name string) *lines {
	named := &lines{make(chan string, cap(l.next))}
	go func() {
		defer close(named.next)
		for line := range l.next {
			if strings.Contains(line, name) {
				named.next <- line
			}
		}
	}()
	return named
}

// Where there is no terminal watch prints a line per change.
func TestWatchInLines(t *testing.T) {
	t.Setenv("SEMAPHORE_DIR", tempDir(t))
	name := newName(t)
	if got := run(t, "watch", name); got.status != statusNoInput || !isOneLine(got.stderr) {
		t.Errorf("no such semaphore: %+v", got)
	}
	if got := run(t, "create", "-n", "2", name); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	watches := func(args ...string) *lines {
		t.Helper()
		cmd := procsemCommand(t, append([]string{"watch"}, args...)...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		start(t, cmd)
		return readLines(out)
	}
	// All has those of tests that run beside this one, too: POSIX semaphores are not in SEMAPHORE_DIR.
	one, all := watches(name), watches().of(name)
	const at = `\d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d `
	lineOn(t, one, at+name+`: 2 of 2 free, 0 waiting`)
	lineOn(t, all, at+name+`: 2 of 2 free, 0 waiting`)
	holder, command := startHolder(t, name, filepath.Join(tempDir(t), "held"), "-o", "--label", "deploy")
	lineOn(t, one, at+name+fmt.Sprintf(`: 1 of 2 free, 0 waiting; held by %d \(deploy\)`, holder.Process.Pid))
	lineOn(t, all, at+name+`: 1 of 2 free, 0 waiting`)
	kill(t, holder.Process.Pid)
	wait(t, holder)
	killIfThere(command)
	lineOn(t, one, at+name+`: 2 of 2 free, 0 waiting`)
	lineOn(t, all, at+name+`: 2 of 2 free, 0 waiting`)
	if got := run(t, "unlink", name); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	lineOn(t, one, at+name+`: gone`)
	lineOn(t, all, at+name+`: gone`)
	if got := run(t, "create", "-n", "3", name); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	lineOn(t, one, at+name+`: 3 of 3 free, 0 waiting`)
	lineOn(t, all, at+name+`: 3 of 3 free, 0 waiting`)
}

// In a directory watch sees what is there, and nothing else.
func TestWatchInDirectory(t *testing.T) {
	usual, dir := storeOf(t), tempDir(t)
	for _, args := range [][]string{{"create", "x"}, {"create", "--dir", dir, "-n", "2", "x"}} {
		if got := run(t, args...); got != (outcome{}) {
			t.Fatalf("%v: %+v", args, got)
		}
	}
	for _, args := range [][]string{{"--dir", dir, "watch", "x"}, {"watch", "--dir", dir}} {
		cmd := procsemCommand(t, args...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		start(t, cmd)
		said := readLines(out)
		const at = `\d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d `
		lineOn(t, said, at+`x: 2 of 2 free, 0 waiting`)
		if got := run(t, "unlink", "--dir", dir, "x"); got != (outcome{}) {
			t.Errorf("unlink: %+v", got)
		}
		lineOn(t, said, at+`x: gone`)
		if got := run(t, "create", "--dir", dir, "-n", "2", "x"); got != (outcome{}) {
			t.Errorf("create: %+v", got)
		}
	}
	if left := filesIn(t, usual); len(left) != 1 {
		t.Errorf("in the usual directory: %v, want the one that was made there", left)
	}
}
