//go:build unix && !aix && !filelock_fcntl

// Package examples_test runs the programs of this directory, which are short.
package examples_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/procsem/semaphore/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m, nil)) }

// program builds a program. Its semaphores are in a directory of the test's own.
func program(t *testing.T, name string) (command func(args ...string) *exec.Cmd) {
	testkit.NeedTool(t, "go")
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	semaphores := filepath.Join(dir, "semaphores")
	testkit.Must(t, os.Mkdir(semaphores, 0o700))
	return func(args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(dir, name), args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "SEMAPHORE_DIR="+semaphores)
		cmd.Stderr = os.Stderr
		return cmd
	}
}

func TestExamplesAreShort(t *testing.T) {
	for pattern, most := range map[string]int{"*/main.go": 39, "*/*/*_test.go": 39, "rendezvous/*.go": 60} {
		files, err := filepath.Glob(pattern)
		if len(files) == 0 || err != nil {
			t.Errorf("%s: no files (%v)", pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			testkit.Must(t, err)
			if lines := bytes.Count(text, []byte("\n")); lines > most {
				t.Errorf("%s has %d lines, more than %d", file, lines, most)
			}
		}
	}
}

func TestPool(t *testing.T) {
	pool := program(t, "pool")
	said, out, err := os.Pipe() // of all, so that the order of their lines is that of what they do
	testkit.Must(t, err)
	var cmds []*exec.Cmd
	for range 3 {
		cmd := pool()
		cmd.Stdout = out
		testkit.Must(t, cmd.Start())
		cmds = append(cmds, cmd)
	}
	out.Close()
	inside, jobs := map[string]bool{}, 0
	for lines := bufio.NewScanner(said); lines.Scan(); {
		switch what, job, _ := strings.Cut(lines.Text(), " "); what {
		case "begin":
			inside[job] = true
			jobs++
		case "end":
			delete(inside, job)
		}
		if len(inside) > 2 {
			t.Errorf("%d jobs at a time", len(inside))
		}
	}
	if jobs != 3*12 || len(inside) != 0 {
		t.Errorf("%d jobs, of which %d have not ended; want 36, all ended", jobs, len(inside))
	}
	for _, cmd := range cmds {
		testkit.Must(t, cmd.Wait())
	}
}

func TestFetch(t *testing.T) {
	fetch := program(t, "fetch")
	var inside, requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := inside.Add(1); n > 2 {
			t.Errorf("%d requests at a time", n)
		}
		defer inside.Add(-1)
		requests.Add(1)
		fmt.Fprint(w, r.URL.Path)
	}))
	defer server.Close()
	testkit.Must(t, os.Mkdir(filepath.Join(fetch().Dir, "cache"), 0o700))
	var cmds []*exec.Cmd
	for i := range 4 {
		var addresses []string
		for j := range 5 {
			addresses = append(addresses, fmt.Sprintf("%s/%d/%d", server.URL, i, j))
		}
		cmds = append(cmds, fetch(addresses...))
		testkit.Must(t, cmds[i].Start())
	}
	for _, cmd := range cmds {
		testkit.Must(t, cmd.Wait())
	}
	files, err := filepath.Glob(filepath.Join(fetch().Dir, "cache", "http*"))
	testkit.Must(t, err)
	if len(files) != 20 || requests.Load() != 20 {
		t.Errorf("%d files of %d requests, want 20", len(files), requests.Load())
	}
}

func TestLeader(t *testing.T) {
	leader := program(t, "leader")
	said, out, err := os.Pipe()
	testkit.Must(t, err)
	stdins, cmds := map[int]io.Closer{}, map[int]*exec.Cmd{}
	for range 3 {
		cmd := leader()
		cmd.Stdout = out
		stdin, err := cmd.StdinPipe()
		testkit.Must(t, err)
		testkit.Must(t, cmd.Start())
		stdins[cmd.Process.Pid], cmds[cmd.Process.Pid] = stdin, cmd
	}
	out.Close()
	for end := range 3 { // the first one is killed, the others end by themselves
		var pid int
		if _, err := fmt.Fscanf(said, "%d leads\n", &pid); err != nil || cmds[pid] == nil {
			t.Fatalf("%d leads (%v)", pid, err)
		}
		if end == 0 {
			testkit.Must(t, cmds[pid].Process.Kill())
		} else {
			testkit.Must(t, stdins[pid].Close())
		}
		if err := cmds[pid].Wait(); (err != nil) != (end == 0) {
			t.Errorf("leader %d ended with %v", end, err)
		}
		delete(cmds, pid)
	}
}

func TestShutdown(t *testing.T) {
	cmd := program(t, "shutdown")()
	out, err := cmd.StdoutPipe()
	testkit.Must(t, err)
	testkit.Must(t, cmd.Start())
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if said = append(said, lines.Text()); lines.Text() == "begin 2" {
			testkit.Must(t, cmd.Process.Signal(syscall.SIGTERM))
		}
	}
	testkit.Must(t, cmd.Wait())
	begun, ended := said[len(said)-2], said[len(said)-1]
	if n, ok := strings.CutPrefix(begun, "begin "); !ok || ended != "end "+n || slices.Index(said, "begin 2") < 0 {
		t.Errorf("got %q, want the last job ended", said)
	}
}
