//go:build unix || windows

package command

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/procsem/semaphore"
	"github.com/spf13/cobra"
)

// hold, a helper, holds a file, prints its process id, and runs until it is killed.
func hold(args []string) int {
	if _, err := holdFile(args[0]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(os.Getpid())
	return stay(nil)
}

// held, a helper, prints whether a process holds the file.
func held(args []string) int {
	fmt.Println("held:", isHeld(args[0]))
	return 0
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for start := time.Now(); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > deadline {
			t.Fatalf("not within %v: %s", deadline, what)
		}
	}
}

// startHolder starts a procsem run that takes a permit, and returns when its command
// runs. The command is killed when the test ends.
func startHolder(t *testing.T, name, file string, flags ...string) (procsem *exec.Cmd, command int) {
	t.Helper()
	args := append(append([]string{"run"}, flags...), name, "--")
	cmd := procsemCommand(t, append(args, helperCommand(t, "hold", file)...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	start(t, cmd)
	command = atoi(readLines(out).read(t))
	if runtime.GOOS == "windows" {
		t.Cleanup(func() { killIfThere(command) }) // with -o killGroup does not kill it
	}
	return cmd, command
}

// startWaiter starts a procsem run that has to wait for a permit, and returns when it
// waits. Its command prints whether the file is held.
func startWaiter(t *testing.T, name, file string, flags ...string) (procsem *exec.Cmd, said *lines) {
	t.Helper()
	args := append(append([]string{"run"}, flags...), name, "--")
	cmd := procsemCommand(t, append(args, helperCommand(t, "held", file)...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	eventually(t, "the second run waits", func() bool {
		s, err := openExisting(name)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		hs, err := s.Holders()
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hs {
			if h.PID == cmd.Process.Pid && h.Waiting {
				return true
			}
		}
		return false
	})
	return cmd, readLines(out)
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := killIfThere(pid); err != nil {
		t.Fatal(err)
	}
}

func killIfThere(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	defer p.Release()
	return p.Kill()
}

func limitOf(t *testing.T, name string) int {
	t.Helper()
	s, err := openExisting(name)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n, err := s.Limit()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDefaultKinds(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"create"}, kindRecoverable},
		{[]string{"create", "-x"}, kindRecoverable},
		{[]string{"run", "-c", "exit 0"}, kindRecoverable},
		{[]string{"create", "--posix"}, kindOfDefault(t)},
		{[]string{"create", "--posix", "-x"}, kindOfDefault(t)},
		{[]string{"run", "--posix", "-c", "exit 0"}, kindOfDefault(t)},
	} {
		if tt.want != kindRecoverable && !posixLasts {
			continue
		}
		name := newName(t)
		if got := run(t, append(tt.args, name)...); got.status != 0 || got.stderr != "" {
			t.Errorf("%q: %+v", tt.args, got)
		}
		s, err := openExisting(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := kindOf(s); got != tt.want {
			t.Errorf("%q: made a %s semaphore, want %s", tt.args, got, tt.want)
		}
		s.Close()
	}
}

func kindOfDefault(t *testing.T) string {
	t.Helper()
	s, err := semaphore.Open(newName(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return kindOf(s)
}

func TestKindMismatchIsDataError(t *testing.T) {
	bare := newSemaphore(t, 1)
	owned, s := newRecoverable(t, 1)
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"run", bare, "-c", "echo ran"}, "add --posix"},
		{[]string{"run", inPlace, bare, "-c", "echo ran"}, "add --posix"},
		{[]string{"create", bare}, "add --posix"},
		{[]string{"resize", bare, "2"}, "only recoverable semaphores have a limit"},
		{[]string{"run", "--posix", owned, "-c", "echo ran"}, "omit --posix"},
		{[]string{"create", "--posix", owned}, "omit --posix"},
		{[]string{"wait", owned}, "procsem run " + owned},
		{[]string{"try", owned}, "procsem run " + owned},
		{[]string{"post", owned}, "procsem run " + owned},
	} {
		got := run(t, tt.args...)
		if got.status != 65 || got.stdout != "" || !isOneLine(got.stderr) || !strings.Contains(got.stderr, tt.says) {
			t.Errorf("%q: got %+v, want status 65 and a line with %q", tt.args, got, tt.says)
		}
	}
	checkValue(t, bare, 1)
	checkValue(t, owned, 1)
	s.Close()
	if got := run(t, "unlink", owned); got.status != 0 {
		t.Errorf("unlink %s: %+v", owned, got)
	}
}

func TestRunLimit(t *testing.T) {
	name := newName(t)
	step := func(status int, says, stdout string, args ...string) {
		t.Helper()
		got := run(t, args...)
		if got.status != status || got.stdout != stdout || says == "" && got.stderr != "" ||
			says != "" && (!isOneLine(got.stderr) || !strings.Contains(got.stderr, says)) {
			t.Errorf("%q: got %+v, want status %d, stdout %q, and %q on stderr", args, got, status, stdout, says)
		}
	}
	limit := func(want int) {
		t.Helper()
		if got := limitOf(t, name); got != want {
			t.Errorf("limit = %d, want %d", got, want)
		}
	}
	step(0, "", "", "run", name, "-c", "exit 0")
	limit(1)
	step(0, "", "", "run", "-n", "3", name, "-c", "exit 0") // no process has it open
	limit(3)
	step(0, "", "", "run", name, "-c", "exit 0")
	limit(3)

	s, err := openExisting(name)
	if err != nil {
		t.Fatal(err)
	}
	step(78, "procsem resize "+name+" 2", "", "run", "-n", "2", name, "-c", "echo ran")
	step(78, "procsem resize "+name+" 2", "", "create", "-n", "2", name)
	step(0, "", "", "run", "-n", "3", name, "-c", "exit 0")
	step(0, "", "", "run", name, "-c", "exit 0")
	limit(3)
	step(0, "", "", "resize", name, "5")
	limit(5)
	const stays = "resize has set its limit to 5, -n 2 is not used"
	step(0, stays, "ran\n", "run", "-n", "2", name, "-c", "echo ran")
	s.Close()
	step(0, stays, "ran\n", "run", "-n", "2", name, "-c", "echo ran") // also if no process has it open
	step(0, "its limit is 5", "", "create", "-n", "2", name)
	limit(5)
	step(0, "", "", "resize", name, "--default")
	limit(5)
	step(0, "", "", "run", name, "-c", "exit 0")
	limit(5)
	step(0, "", "", "run", "-n", "2", name, "-c", "exit 0")
	limit(2)
	step(0, "", "", "resize", name, "-1")
	limit(max(1, processors()-1))
	step(0, "", "", "resize", "--default", name)
	step(0, "", "", "run", "-n", "300%", name, "-c", "exit 0")
	limit(3 * processors())
	step(0, "", "", "resize", name, "0")
	step(75, "; the limit is 0", "", "run", "-w", "0", name, "-c", "echo ran")
	step(0, "", "", "unlink", name)
	step(66, "no such semaphore", "", "resize", name, "1")
	step(66, "no such semaphore", "", "resize", name, "--default")
}

// wait --idle ends when the last holder has gone, and the last waiter, killed or not.
func TestWaitIdle(t *testing.T) {
	name, file := newName(t), filepath.Join(tempDir(t), "held")
	if got := run(t, "wait", "--idle", name); got.status != 66 {
		t.Errorf("no such semaphore: %+v, want status 66", got)
	}
	bare := newSemaphore(t, 1)
	if got := run(t, "wait", "--idle", bare); got.status != 65 || !strings.Contains(got.stderr, "POSIX semaphore") {
		t.Errorf("a bare count: %+v, want status 65", got)
	}
	first, _ := startHolder(t, name, file, "-o")
	second, said := startWaiter(t, name, file, "-o")
	holders := fmt.Sprintf("in use: held by %d (", first.Process.Pid)
	if got := run(t, "wait", "--idle", "-w", "0", "-E", "9", name); got.status != 9 || !isOneLine(got.stderr) || !strings.Contains(got.stderr, holders) || !strings.Contains(got.stderr, "; 1 waits") {
		t.Errorf("it is held: %+v, want status 9 and %q", got, holders)
	}
	idle := procsemCommand(t, "wait", "--idle", name)
	start(t, idle)
	kill(t, first.Process.Pid)
	wait(t, first)
	said.want(t, "held: true") // by the command of the first run
	wait(t, second)
	if got := wait(t, idle); got != (outcome{}) {
		t.Errorf("nobody holds or waits: %+v", got)
	}
	if got := run(t, "wait", "--idle", "-w", "0", name); got != (outcome{}) {
		t.Errorf("nobody holds or waits: %+v", got)
	}
}

// Whoever removes the name when nobody uses it any more may come before the next look.
func TestWaitIdleForRemovedName(t *testing.T) {
	name, s := newRecoverable(t, 1)
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	w := &watcher{arrived: make(chan os.Signal)}
	ended := make(chan error, 1)
	go func() {
		inv := &invocation{quiet: true}
		ended <- inv.awaitIdle(&cobra.Command{}, name, patience{limit: forEver}, w)
	}()
	select {
	case w.arrived <- os.Kill: // none that ends the wait; it is received after the first look
	case err := <-ended:
		t.Fatalf("it has ended, %v, though the permit is held", err)
	}
	if err := semaphore.Unlink(name); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the name was removed: %v, want success", err)
	}
}

func TestKilledRunWithCloseReleasesPermitAtOnce(t *testing.T) {
	name, file := newName(t), filepath.Join(tempDir(t), "held")
	first, _ := startHolder(t, name, file, "-o")
	second, said := startWaiter(t, name, file, "--close")
	kill(t, first.Process.Pid)
	wait(t, first)
	said.want(t, "held: true") // by the command of the first run
	if got := wait(t, second); got.status != 0 {
		t.Errorf("the second run: %+v", got)
	}
	checkValue(t, name, 1)
}

func TestBackgroundProcessKeepsNoPermit(t *testing.T) {
	name := newName(t)
	got := run(t, append([]string{"run", name, "--"}, helperCommand(t, "leave")...)...)
	if got.status != 0 {
		t.Fatalf("got %+v", got)
	}
	pid := atoi(strings.TrimSpace(got.stdout))
	defer kill(t, pid) // fails if it does not run any more
	checkValue(t, name, 1)
	if got := run(t, "run", "-w", "0", name, "-c", "exit 0"); got.status != 0 {
		t.Errorf("a run while it still runs: %+v", got)
	}
}

func TestResizeLetsWaitingRunContinue(t *testing.T) {
	name, file := newName(t), filepath.Join(tempDir(t), "held")
	startHolder(t, name, file)
	second, said := startWaiter(t, name, file)
	if got := run(t, "resize", name, "2"); got.status != 0 {
		t.Fatalf("resize: %+v", got)
	}
	said.want(t, "held: true")
	if got := wait(t, second); got.status != 0 {
		t.Errorf("the second run: %+v", got)
	}
}

func ptr(n int) *int { return &n }

func TestList(t *testing.T) {
	dir := tempDir(t)
	t.Setenv("SEMAPHORE_DIR", dir)
	open := func(name string, opts ...semaphore.Option) *semaphore.Semaphore {
		t.Helper()
		s, err := semaphore.Open(name, opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			s.Close()
			s = nil // t keeps this function, and s would not be collected; see tempDir on Windows
		})
		return s
	}
	rec := open("a", semaphore.WithRecovery(true), semaphore.WithValue(3))
	for range 2 { // one holder of two permits
		if err := rec.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	open("a", semaphore.WithRecovery(true)) // no holder
	open("b\n", semaphore.WithRecovery(true))
	files := map[string]string{"rec.damaged": "hello", "tmp.1.2": "", "other": ""}
	if runtime.GOOS != "windows" {
		open("c", semaphore.WithEngine(semaphore.EngineFlock), semaphore.WithValue(7))
		files["flk.damaged too"] = "hello"
		files["rec."] = ""
	}
	for file, content := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "rec.directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	bare := newSemaphore(t, 2)
	want := []summary{
		{Name: "a", Kind: kindRecoverable, Limit: ptr(3), Free: ptr(1), Holders: ptr(1), Waiting: ptr(0)},
		{Name: "b\n", Kind: kindRecoverable, Limit: ptr(1), Free: ptr(1), Holders: ptr(0), Waiting: ptr(0)},
		{Name: "damaged", Kind: kindRecoverable, Error: "5 bytes"},
		{Name: "directory", Kind: kindRecoverable, Error: "no regular file"},
	}
	wantRows := map[string]string{
		"NAME": "KIND LIMIT FREE HOLDERS WAITING", "a": "recoverable 3 1 1 0", `"b\n"`: "recoverable 1 1 0 0",
	}
	if runtime.GOOS != "windows" {
		want = slices.Insert(want, 2, summary{Name: "c", Kind: kindFlock, Free: ptr(7)})
		want = slices.Insert(want, 4, summary{Name: "damaged too", Kind: kindFlock, Error: "5 bytes"})
		wantRows["c"] = "flock - 7 - -"
	}
	if os.Geteuid() > 0 { // root may read everything
		open("forbidden", semaphore.WithRecovery(true))
		if err := os.Chmod(filepath.Join(dir, "rec.forbidden"), 0); err != nil {
			t.Fatal(err)
		}
		want = append(want, summary{Name: "forbidden", Kind: kindRecoverable, Error: "permission denied"})
	}
	listed := run(t, "list", "--json")
	if listed.status != 0 || listed.stderr != "" {
		t.Fatalf("list --json: %+v", listed)
	}
	var got, ours []summary
	if err := json.Unmarshal([]byte(listed.stdout), &got); err != nil {
		t.Fatalf("%v in %s", err, listed.stdout)
	}
	listsGlibc := false
	for _, s := range got {
		switch {
		case s.Name == bare && s.Kind == kindPOSIX:
			listsGlibc = true
			if diff := cmp.Diff(summary{Name: bare, Kind: kindPOSIX, Free: ptr(2)}, s); diff != "" {
				t.Errorf("POSIX (-want +got):\n%s", diff)
			}
		case s.Kind != kindPOSIX && s.Name != bare: // not other programs' semaphores in /dev/shm
			ours = append(ours, s)
		}
	}
	if _, err := os.Stat("/dev/shm/sem." + bare); err == nil && !listsGlibc {
		t.Errorf("%s is missing in %s", bare, listed.stdout)
	}
	reason := cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Error" }, cmp.Comparer(func(a, b string) bool {
		return (a == "") == (b == "") && (strings.Contains(a, b) || strings.Contains(b, a))
	}))
	if diff := cmp.Diff(want, ours, reason); diff != "" {
		t.Errorf("list --json (-want +got):\n%s", diff)
	}

	text := run(t, "list")
	if text.status != 0 || text.stderr != "" {
		t.Fatalf("list: %+v", text)
	}
	rows := make(map[string]string)
	for line := range strings.Lines(text.stdout) {
		f := strings.Fields(line)
		rows[f[0]] = strings.Join(f[1:], " ")
	}
	for name, want := range wantRows {
		if rows[name] != want {
			t.Errorf("list, %s: %q, want %q", name, rows[name], want)
		}
	}
	if row := rows["directory"]; !strings.HasPrefix(row, "recoverable - - - - ") || !strings.Contains(row, "no regular file") {
		t.Errorf("list, directory: %q", row)
	}
}

func TestListOfEmptyOrBadDirectory(t *testing.T) {
	for dir, want := range map[string]int{tempDir(t): 0, "relative": 64, filepath.Join(tempDir(t), "absent"): 66} {
		cmd := procsemCommand(t, "list", "--json")
		cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
		got := runCmd(t, cmd)
		var list []summary
		if got.status != want || want == 0 && json.Unmarshal([]byte(got.stdout), &list) != nil {
			t.Errorf("SEMAPHORE_DIR=%s: %+v, want status %d", dir, got, want)
		}
		if slices.ContainsFunc(list, func(s summary) bool { return s.Kind != kindPOSIX }) {
			t.Errorf("SEMAPHORE_DIR=%s: %s", dir, got.stdout)
		}
	}
}

func TestShowOfBareCount(t *testing.T) {
	name := newSemaphore(t, 2)
	got := run(t, "show", "--json", name)
	var v view
	if err := json.Unmarshal([]byte(got.stdout), &v); err != nil || got.status != 0 {
		t.Fatalf("%v, %+v", err, got)
	}
	v.OpenIn = nil // see TestShowOfBareCountTellsWhoHasItOpen
	if diff := cmp.Diff(view{Name: name, Kind: kindOfDefault(t), Free: ptr(2)}, v); diff != "" {
		t.Errorf("show --json (-want +got):\n%s", diff)
	}
	if got := run(t, "show", name); got.status != 0 || !strings.Contains(got.stdout, "free   2\n") || !strings.Contains(got.stdout, "nobody can tell") {
		t.Errorf("show: %+v", got)
	}
}
