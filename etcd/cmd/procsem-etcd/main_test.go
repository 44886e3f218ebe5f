//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	. "github.com/procsem/semaphore/etcd/internal/etcdtest"
)

// programs is a directory with procsem and procsem-etcd.
var programs string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if programs, err = os.MkdirTemp("", "semaphore-test-*"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(programs)
		for _, build := range [][]string{{"-C", "../../..", "./cmd/procsem"}, {"-C", "../..", "./cmd/procsem-etcd"}} {
			cmd := exec.Command("go", "build", build[0], build[1], "-o", programs+string(filepath.Separator), build[2])
			if out, err := cmd.CombinedOutput(); err != nil {
				panic(fmt.Sprintf("%v: %s", err, out))
			}
		}
		for _, variable := range []string{"PROCSEM_STORE", "SEMAPHORE_DIR", "ETCDCTL_USER", "ETCDCTL_PASSWORD", "ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY"} {
			os.Unsetenv(variable)
		}
		return m.Run()
	}())
}

// A shop is a store with the commands that use it.
type shop struct {
	t      *testing.T
	server *Server
	store  string
	env    []string
}

// newShop starts a server. The test runs beside others: mostly they wait.
func newShop(t *testing.T) *shop {
	t.Parallel()
	s := Start(t)
	return &shop{t: t, server: s, store: "etcd://" + s.Address + "/tests"}
}

// command is procsem with those arguments. If none of them is a TTL that of run is one that no busy machine exceeds.
func (s *shop) command(args ...string) *exec.Cmd {
	if args[0] == "run" && !slices.Contains(args, "--ttl") {
		args = slices.Insert(args, 1, "--ttl", "60")
	}
	cmd := exec.Command(filepath.Join(programs, "procsem"), args...)
	cmd.Env = append(os.Environ(), append([]string{"PROCSEM_STORE=" + s.store}, s.env...)...)
	return cmd
}

// call runs procsem to its end.
func (s *shop) call(args ...string) (status int, stdout, stderr string) {
	s.t.Helper()
	cmd := s.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	s.run(cmd)
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// run runs a command, which has to end.
func (s *shop) run(cmd *exec.Cmd) {
	s.t.Helper()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ends(cmd)
}

func (s *shop) ends(cmd *exec.Cmd) {
	s.t.Helper()
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(2 * Deadline):
		_ = cmd.Process.Kill()
		s.t.Fatalf("it does not end: %q", cmd.Args)
	}
}

// expect fails the test unless procsem does that.
func (s *shop) expect(status int, stdout, stderr string, args ...string) {
	s.t.Helper()
	got, out, errs := s.call(args...)
	if got != status || out != stdout || stderr == "" && errs != "" || !strings.Contains(errs, stderr) {
		s.t.Errorf("procsem %q:\nstatus %d, want %d\n%q\nwant %q\nstderr %q\nwant %q", args, got, status, out, stdout, errs, stderr)
	}
}

func TestCommands(t *testing.T) {
	s := newShop(t)
	s.expect(0, "NAME  KIND  LIMIT  FREE  HOLDERS  WAITING\n", "", "list")
	s.expect(66, "", `"x": no such semaphore`, "show", "x")
	s.expect(66, "", `"x": no such semaphore`, "value", "x")
	s.expect(66, "", `"x": no such semaphore`, "resize", "x", "2")
	s.expect(66, "", `"x": no such semaphore`, "resize", "x", "--default")
	s.expect(66, "", `"x": no such semaphore`, "unlink", "x")
	s.expect(66, "", `"x": no such semaphore`, "wait", "--idle", "x")
	s.expect(0, "", "", "create", "-n", "2", "x")
	s.expect(0, "", "", "create", "-x", "/y")
	s.expect(73, "", `"x": the semaphore exists`, "create", "-x", "x")
	s.expect(0, "", "x exists: its limit is 2\n", "create", "-n", "2", "x")
	s.expect(0, "", "x exists: its limit was 2 and is 3 now\n", "create", "-n", "3", "x")
	s.expect(0, "3\n", "", "value", "x")
	s.expect(0, "", "", "resize", "x", "4")
	s.expect(0, "", "procsem resize has set its limit to 4, -n 2 is not used", "run", "-n", "2", "x", "true")
	s.expect(0, "", "", "resize", "x", "--default")
	s.expect(0, "", "", "run", "-n", "2", "x", "true")
	s.expect(0, "name   x\nkind   etcd\nlimit  2\nfree   2\n", "", "show", "x")
	s.expect(0, "NAME  KIND  LIMIT  FREE  HOLDERS  WAITING\nx     etcd  2      2     0        0\ny     etcd  1      1     0        0\n", "", "list")
	s.expect(0, `[
  {
    "name": "x",
    "kind": "etcd",
    "limit": 2,
    "free": 2,
    "holders": 0,
    "waiting": 0
  },
  {
    "name": "y",
    "kind": "etcd",
    "limit": 1,
    "free": 1,
    "holders": 0,
    "waiting": 0
  }
]
`, "", "list", "--json")
	if _, out, _ := s.call("list", "--prometheus"); !strings.Contains(out, fmt.Sprintf(`procsem_free_permits{name="x",kind="etcd",store=%q} 2`+"\n", s.store)) {
		t.Errorf("list --prometheus: %s", out)
	}
	s.expect(0, "", "", "wait", "--idle", "x")
	s.expect(7, "x-2\n", "", "run", "x", "sh", "-c", `echo "$PROCSEM_NAME-$PROCSEM_LIMIT$PROCSEM_SLOT"; test "$PROCSEM_TOKEN" -gt 0 && exit 7`)
	s.expect(64, "", "-k 3 is more than the limit", "run", "-k", "3", "x", "true")
	s.expect(0, "", "", "run", "-k", "all", "--also", "y", "--also", "z=3", "x", "true")
	s.expect(127, "", "command not found", "run", "x", "no-such-command")
	s.expect(124, "", "--max-hold", "run", "--max-hold", "0.1", "x", "sleep", "100")
	s.expect(0, "x\ny\nz\n", "", "unlink", "--idle")
	s.expect(0, "NAME  KIND  LIMIT  FREE  HOLDERS  WAITING\n", "", "list")
}

// Another prefix is another store.
func TestPrefixes(t *testing.T) {
	s := newShop(t)
	s.expect(0, "", "", "create", "x")
	other := *s
	other.store = s.store + "/deeper"
	other.expect(66, "", "no such semaphore", "value", "x")
	other.expect(0, "", "", "create", "-n", "5", "x")
	s.expect(0, "1\n", "", "value", "x")
	other.expect(0, "5\n", "", "value", "x")
	// With --store what the variable says does not count, and "" means this machine's.
	s.expect(0, "5\n", "", "value", "--store", other.store+"/", "x")
	s.env = []string{"SEMAPHORE_DIR=" + t.TempDir()}
	s.expect(66, "", "no such semaphore", "value", "--store", "", "x")
	s.expect(0, "", "", "--store=", "create", "-n", "9", "x")
	s.expect(0, "9\n", "", "--store", "", "value", "x")
	s.expect(0, "NAME  KIND  LIMIT  FREE  HOLDERS  WAITING\n", "", "list", "--dir", t.TempDir())
	// One prefix may be below another one's semaphore.
	s.expect(0, "", "", "create", "deeper")
	s.expect(0, "", "", "unlink", "deeper")
	other.expect(0, "5\n", "", "value", "x")
}

// Advice names the store.
func TestAdviceNamesTheStore(t *testing.T) {
	s := newShop(t)
	s.start("run", "x", "--", "sleep", "1000")
	s.awaits("the holder", func(v view) bool { return len(v.Holders) == 1 })
	s.expect(78, "", "to change it for all: procsem --store "+s.store+" resize x 2", "run", "-n", "2", "x", "true")
}

func TestRefusedOptions(t *testing.T) {
	s := newShop(t)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"run", "-F", "x", "true"}, "-F and PROCSEM_STORE (use --store \"\" for the semaphores of this machine): without procsem"},
		{[]string{"run", "--store", s.store, "-F", "x", "true"}, "-F and --store"},
		{[]string{"run", "--posix", "x", "true"}, "POSIX semaphores are those of one machine"},
		{[]string{"create", "--posix", "x"}, "POSIX semaphores are those of one machine"},
		{[]string{"create", "--mode", "0666", "x"}, "up to the store"},
		{[]string{"create", "--from", "-"}, "which a store does not have"},
		{[]string{"run", "--every", "1h", "x", "true"}, "the time of the last start"},
		{[]string{"unlink", "-f", "x"}, "beside those who use"},
		{[]string{"wait", "x"}, "wait without --idle"},
		{[]string{"try", "x"}, "try and"},
		{[]string{"post", "x"}, "post and"},
		{[]string{"path", "x"}, "in no file"},
		{[]string{"lock", "--fd", "9", "x"}, "in no file"},
		{[]string{"unlock", "--fd", "9", "x"}, "in no file"},
		{[]string{"list", "--store", s.store, "--dir", "/"}, "a directory of this machine or in a store"},
		{[]string{"list", "--store", "redis://h"}, `"redis" is no store that procsem knows`},
		{[]string{"list", "--store", "h:2379"}, "it has no ://"},
		{[]string{"list", "--store", "etcd://a,,b/p"}, `"" is no host`},
		{[]string{"list", "--store", "etcd://"}, `"" is no host`},
		{[]string{"list", "--cert", "x"}, "both are needed"},
		{[]string{"list", "--store", "etcd://anna:secret@h/p"}, "--store etcd://...@h/p: the user is said by --user"},
		{[]string{"list", "--user", "anna"}, `the user "anna" without a password`},
		{[]string{"list", "--store=", "--cert", "x"}, "--cert without a store"},
		{[]string{"run", "--ttl", "0.5", "x", "true"}, "1 second at least"},
	} {
		s.expect(64, "", tt.want, tt.args...)
	}
	s.expect(64, "", "it contains a slash", "run", "a/b", "true")
	if status, _, errs := s.call("list", "--store", "etcd://anna:secret@h/p"); status != 64 || strings.Contains(errs, "secret") {
		t.Errorf("%s", errs)
	}
	// The options mean nothing when they are not set.
	s.expect(0, "", "", "run", "--no-fork=false", "--posix=false", "x", "true")
}

// Help does not ask the store, nor look for its program.
func TestHelpWithoutTheStore(t *testing.T) {
	s := &shop{t: t, store: "etcd://127.0.0.1:1"}
	for _, args := range [][]string{{"--help"}, {"help", "run"}, {"run", "--help"}, {"--version"}, {"completion", "bash"}} {
		if status, out, _ := s.call(args...); status != 0 || out == "" {
			t.Errorf("procsem %q: status %d, %q", args, status, out)
		}
	}
}

// Procsem finds the program beside itself, or in PATH, and else says how to get it.
func TestProgramForTheStore(t *testing.T) {
	s := newShop(t)
	alone := filepath.Join(t.TempDir(), "procsem")
	text, err := os.ReadFile(filepath.Join(programs, "procsem"))
	if err == nil {
		err = os.WriteFile(alone, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	if err := os.Symlink(filepath.Join(programs, "procsem-etcd"), filepath.Join(elsewhere, "procsem-etcd")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/nonexistent": 69, elsewhere: 0} {
		cmd := s.command("create", "found")
		cmd.Path = alone
		cmd.Env = append(cmd.Env, "PATH="+path)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		s.run(cmd)
		if got := cmd.ProcessState.ExitCode(); got != want || want != 0 && !strings.Contains(errs.String(), "go install github.com/procsem/semaphore/etcd/cmd/procsem-etcd@latest") {
			t.Errorf("PATH=%s: status %d, want %d: %s", path, got, want, &errs)
		}
	}
}

// view is what "show --json" says.
type view struct {
	Free             int
	Holders, Waiters []struct {
		Host, State, Label string
		PID, Permits, Want int
		Place              int
		Since              time.Time
		Waiting            time.Time `json:"waiting_since"`
	}
}

func (s *shop) view(name string) (v view) {
	s.t.Helper()
	_, out, errs := s.call("show", "--json", name)
	if err := json.Unmarshal([]byte(out), &v); err != nil && !strings.Contains(errs, "no such semaphore") {
		s.t.Fatalf("show: %v: %s%s", err, out, errs)
	}
	return v
}

// start starts a command that runs to the end of the test, or until it is ended.
func (s *shop) start(args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := s.command(args...)
	cmd.Stderr = os.Stderr
	s.begin(cmd)
	return cmd
}

func (s *shop) begin(cmd *exec.Cmd) {
	s.t.Helper()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func (s *shop) awaits(what string, is func(view) bool) {
	s.t.Helper()
	Eventually(s.t, what, func(context.Context) bool { return is(s.view("x")) })
}

// Runs take turns, two by two, in the order in which they came; show names them all, also those with other directories and in other pid
// namespaces.
func TestRunsTakeTurns(t *testing.T) {
	s := newShop(t)
	dir := t.TempDir()
	// Each command notes when it begins and ends, and waits in between until it may end.
	script := `echo + >>` + dir + `/log; until test -e ` + dir + `/go; do sleep 0.01; done; echo - >>` + dir + `/log`
	var all []*exec.Cmd
	for i := range 6 {
		cmd := s.command("run", "-n", "2", "--label", fmt.Sprint("run", i), "x", "--", "sh", "-c", script)
		cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+t.TempDir())
		if i%3 == 2 && os.Getuid() == 0 && exec.Command("unshare", "--pid", "--fork", "true").Run() == nil {
			cmd.Args = append([]string{"unshare", "--pid", "--fork", "--kill-child", "--", cmd.Path}, cmd.Args[1:]...)
			cmd.Path, cmd.Err = exec.LookPath("unshare")
		}
		s.begin(cmd)
		all = append(all, cmd)
		s.awaits(fmt.Sprintf("%d in the line", i+1), func(v view) bool { return len(v.Holders)+len(v.Waiters) == i+1 })
	}
	v := s.view("x")
	host, _ := os.Hostname()
	for i, h := range append(v.Holders, v.Waiters...) {
		if h.Host != host || h.State != "remote" || h.Label != fmt.Sprint("run", i) || h.PID == 0 {
			t.Errorf("%d: %+v", i, h)
		}
		if i < 2 && (h.Permits != 1 || h.Since.IsZero()) || i >= 2 && (h.Place != i-1 || h.Want != 1 || h.Waiting.IsZero()) {
			t.Errorf("%d: %+v", i, h)
		}
	}
	if len(v.Holders) != 2 || v.Free != 0 {
		t.Errorf("%+v", v)
	}
	s.expect(75, "", "is in use: held by "+host+":", "unlink", "x")
	s.expect(75, "", "no permit of \"x\" is free; held by "+host+":", "run", "-w", "0", "x", "true")
	s.expect(75, "", "no permit of \"x\" within 3s; held by "+host+":", "run", "-w", "3", "x", "true")
	if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range all {
		s.ends(cmd)
		if !cmd.ProcessState.Success() {
			t.Errorf("%v: %v", cmd.Args, cmd.ProcessState)
		}
	}
	text, err := os.ReadFile(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	inside := 0
	for word := range strings.FieldsSeq(string(text)) {
		if inside += map[string]int{"+": 1, "-": -1}[word]; inside > 2 {
			t.Errorf("three at a time: %s", text)
		}
	}
	if n := strings.Count(string(text), "-"); n != 6 || inside != 0 {
		t.Errorf("%d have run: %s", n, text)
	}
	s.expect(0, "2\n", "", "value", "x")
}

// alive reports whether a process runs.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

// pids reads numbers of processes from a file, one a line, when there are so many.
func pids(t *testing.T, file string, n int) (all []int) {
	t.Helper()
	Eventually(t, "the commands", func(context.Context) bool {
		text, _ := os.ReadFile(file)
		all = nil
		for line := range strings.Lines(string(text)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
				all = append(all, pid)
			}
		}
		return len(all) == n
	})
	t.Cleanup(func() {
		for _, pid := range all {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return all
}

// If procsem is killed its command dies with it, but with --close; in either case the permit comes back.
func TestKilledProcsem(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("not on " + runtime.GOOS + ": a command that dies with procsem")
	}
	s := newShop(t)
	for _, option := range []string{"--close=false", "--close"} {
		file := filepath.Join(t.TempDir(), "pid")
		holder := s.start("run", "--ttl", "3", option, "x", "--", "sh", "-c", "echo $$ >"+file+"; exec sleep 1000")
		command := pids(t, file, 1)[0]
		_ = holder.Process.Kill()
		_ = holder.Wait()
		if option == "--close" {
			if !alive(command) {
				t.Error("with --close the command dies")
			}
		} else {
			Eventually(t, "the end of the command", func(context.Context) bool { return !alive(command) })
		}
		s.expect(0, "next\n", "", "run", "--ttl", "3", "x", "echo", "next")
	}
}

// When the store does not answer the command is ended before others can have the permit, and what it has started with it, first with a
// word and then without.
func TestLostPermit(t *testing.T) {
	s := newShop(t)
	for what, script := range map[string]string{
		"obeys":          "echo $$ >>FILE; sh -c 'echo $$ >>FILE; exec sleep 1000'; echo never",
		"does not":       "trap '' TERM; echo $$ >>FILE; sh -c 'echo $$ >>FILE; while :; do sleep 1; done'; while :; do sleep 1; done",
		"leaves a child": "sh -c 'trap \"\" TERM; echo $$ >>FILE; while :; do sleep 1; done' & echo $$ >>FILE; wait",
	} {
		file := filepath.Join(t.TempDir(), "pids")
		cmd := s.command("run", "--ttl", "3", "x", "--", "sh", "-c", strings.ReplaceAll(script, "FILE", file))
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		s.begin(cmd)
		family := pids(t, file, 2)
		stop(t, s.server, func() {
			s.ends(cmd)
			if got := cmd.ProcessState.ExitCode(); got != 76 || !strings.Contains(errs.String(), "the permit is being lost") || out.Len() > 0 {
				t.Errorf("%s: status %d, want 76: %s%s", what, got, &out, &errs)
			}
			if runtime.GOOS == "linux" {
				Eventually(t, "the end of all that was started: "+what, func(context.Context) bool { return !alive(family[0]) && !alive(family[1]) })
			}
		})
		s.expect(0, "next\n", "", "run", "--ttl", "3", "x", "echo", "next")
	}
}

// stop stops the server meanwhile.
func stop(t *testing.T, server *Server, meanwhile func()) {
	t.Helper()
	if err := server.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer server.Process.Signal(syscall.SIGCONT)
	meanwhile()
}

// What nobody reads keeps procsem from nothing.
func TestLostPermitIsToldToNobody(t *testing.T) {
	s := newShop(t)
	unread, full, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Close()
	defer full.Close()
	for ; err == nil; _, err = full.Write(make([]byte, 4096)) {
		_ = full.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	}
	closed, gone, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	defer gone.Close()
	for what, stderr := range map[string]*os.File{"full": full, "closed": gone} {
		file := filepath.Join(t.TempDir(), "pid")
		cmd := s.command("run", "--ttl", "3", "x", "--", "sh", "-c", "trap '' TERM; exec 2>&-; echo $$ >"+file+"; while :; do sleep 1; done")
		cmd.Stderr = stderr
		s.begin(cmd)
		command := pids(t, file, 1)[0]
		stop(t, s.server, func() {
			s.ends(cmd)
			if got := cmd.ProcessState.ExitCode(); got != 76 || alive(command) {
				t.Errorf("%s: %v, want status 76; the command runs: %v", what, cmd.ProcessState, alive(command))
			}
		})
		s.expect(0, "next\n", "", "run", "--ttl", "3", "x", "echo", "next")
	}
}

// If the store answers again in time a command that runs on is not killed, and its own status counts.
func TestRegainedPermit(t *testing.T) {
	s := newShop(t)
	file := filepath.Join(t.TempDir(), "pid")
	cmd := s.command("run", "--ttl", "20", "x", "--", "sh", "-c", "trap 'echo asked' TERM; echo $$ >"+file+"; until test -e "+file+".end; do sleep 0.01; done; exit 5")
	var out, errs buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	s.begin(cmd)
	pids(t, file, 1)
	stop(t, s.server, func() {
		Eventually(t, "SIGTERM", func(context.Context) bool { return strings.Contains(out.String(), "asked") })
	})
	Eventually(t, "the end of the outage", func(context.Context) bool { return strings.Contains(errs.String(), "answers again") })
	if err := os.WriteFile(file+".end", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.ends(cmd)
	if got := cmd.ProcessState.ExitCode(); got != 5 {
		t.Errorf("status %d, want 5: %s", got, errs.String())
	}
}

// A permit that was lost while another one was waited for starts nothing.
func TestLostBeforeTheStart(t *testing.T) {
	s := newShop(t)
	holder := s.start("run", "x", "--", "sleep", "1000")
	s.awaits("the holder", func(v view) bool { return len(v.Holders) == 1 })
	cmd := s.command("run", "--also", "a=1", "x", "echo", "started")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	s.begin(cmd)
	s.awaits("the waiter", func(v view) bool { return len(v.Waiters) == 1 })
	client := Connect(t, s.server.Address)
	if _, err := client.Delete(t.Context(), "tests/a/q/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	_ = holder.Process.Signal(syscall.SIGTERM)
	s.ends(cmd)
	if got := cmd.ProcessState.ExitCode(); got != 76 || out.Len() > 0 || !strings.Contains(errs.String(), "lost before the command could start") {
		t.Errorf("status %d, want 76: %s%s", got, &out, &errs)
	}
}

// What a dead holder held is shown as such, and a wait until nobody uses the name ends in spite of it.
func TestIdleAfterADeath(t *testing.T) {
	s := newShop(t)
	holder := s.start("run", "--ttl", "3", "-n", "3", "x", "--", "sleep", "1000")
	s.awaits("the holder", func(v view) bool { return len(v.Holders) == 1 })
	_ = holder.Process.Kill()
	s.awaits("its loss", func(v view) bool { return len(v.Holders) == 1 && v.Holders[0].State == "lost" })
	s.expect(0, "", "", "wait", "--idle", "--ttl", "3", "-w", "60", "x")
	s.expect(0, "3\n", "", "value", "x")
}

// When its place is removed the command is ended, too, also one that does not obey.
func TestRemovedPlace(t *testing.T) {
	s := newShop(t)
	file := filepath.Join(t.TempDir(), "pid")
	cmd := s.start("run", "--ttl", "3", "x", "--", "sh", "-c", "trap '' TERM; echo $$ >"+file+"; while :; do sleep 1; done")
	command := pids(t, file, 1)[0]
	client := Connect(t, s.server.Address)
	if _, err := client.Delete(t.Context(), "tests/x/q/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	s.ends(cmd)
	if got := cmd.ProcessState.ExitCode(); got != 76 || alive(command) {
		t.Errorf("status %d, want 76; it runs: %v", got, alive(command))
	}
}

// When its keys are removed the command is ended, too.
func TestRevokedPermit(t *testing.T) {
	s := newShop(t)
	cmd := s.command("run", "x", "--", "sleep", "1000")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	s.begin(cmd)
	s.awaits("the holder", func(v view) bool { return len(v.Holders) == 1 })
	client := Connect(t, s.server.Address)
	leases, err := client.Leases(t.Context())
	if err != nil || len(leases.Leases) != 1 {
		t.Fatal(leases, err)
	}
	if _, err := client.Revoke(t.Context(), leases.Leases[0].ID); err != nil {
		t.Fatal(err)
	}
	s.ends(cmd)
	if got := cmd.ProcessState.ExitCode(); got != 76 {
		t.Errorf("status %d, want 76: %s", got, &errs)
	}
}

// A store that does not answer can be waited for, not for ever, and a signal ends that.
func TestSilentStore(t *testing.T) {
	s := newShop(t)
	s.expect(0, "", "", "create", "x")
	stop(t, s.server, func() {
		s.expect(75, "", "no permit of \"x\" within 200ms: "+s.store+" does not answer", "run", "-w", "0.2", "x", "true")
		s.expect(71, "", "no answer of etcd for 1s", "list", "--ttl", "1")
		s.expect(71, "", `"x": no answer of etcd for 1s`, "run", "--ttl", "1", "x", "true")
		cmd := s.start("run", "--ttl", "1000", "x", "true")
		// It catches signals when it has begun to ask the server.
		Eventually(t, "a connection", func(context.Context) bool { return caught(cmd.Process.Pid, syscall.SIGTERM) })
		_ = cmd.Process.Signal(syscall.SIGTERM)
		s.ends(cmd)
		if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGTERM {
			t.Errorf("%v, want death by SIGTERM", cmd.ProcessState)
		}
	})
}

// caught reports whether a process that has become procsem-etcd catches a signal.
func caught(pid int, sig syscall.Signal) bool {
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || filepath.Base(exe) != "procsem-etcd" {
		return false
	}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if mask, is := strings.CutPrefix(line, "SigCgt:"); is {
			bits, _ := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return bits>>(sig-1)&1 != 0
		}
	}
	return false
}

// In the background, too, the command holds its permit, and dies with its procsem.
func TestBackground(t *testing.T) {
	s := newShop(t)
	file := filepath.Join(t.TempDir(), "pid")
	front := s.command("run", "--bg", "x", "--", "sh", "-c", "echo $$ >"+file+"; exec sleep 1000")
	if s.run(front); !front.ProcessState.Success() {
		t.Fatal(front.ProcessState)
	}
	command := pids(t, file, 1)[0]
	if v := s.view("x"); len(v.Holders) != 1 || !alive(v.Holders[0].PID) {
		t.Errorf("%+v", v)
	}
	_ = syscall.Kill(command, syscall.SIGTERM)
	s.expect(0, "", "", "wait", "--idle", "-w", "30", "x")
}

// A wait on the store is told of in lines, and watch tells of changes.
func TestWaitSpeaks(t *testing.T) {
	s := newShop(t)
	holder := s.start("run", "--label", "first", "x", "--", "sleep", "1000")
	s.awaits("the holder", func(v view) bool { return len(v.Holders) == 1 })
	watch := s.command("watch", "x")
	var changes, said buffer
	watch.Stdout = &changes
	s.begin(watch)
	waiter := s.command("run", "-v", "x", "true")
	waiter.Stderr = &said
	s.begin(waiter)
	host, _ := os.Hostname()
	want := fmt.Sprintf("; held by %s:%d (first) for ", host, holder.Process.Pid)
	Eventually(t, "a line: "+want, func(context.Context) bool {
		return strings.Contains("\n"+said.String(), "\nprocsem: x: waiting, 1st of 1, for ") && strings.Contains(said.String(), want)
	})
	_ = holder.Process.Signal(syscall.SIGTERM)
	s.ends(waiter)
	for _, want := range []string{"x: 0 of 1 free, 1 waiting; held by " + host, "x: 1 of 1 free, 0 waiting"} {
		Eventually(t, "watch: "+want, func(context.Context) bool { return strings.Contains(changes.String(), want) })
	}
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
