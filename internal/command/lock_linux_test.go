package command

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore/internal/testkit"
)

func needOpenFileLocks(t *testing.T) {
	t.Helper()
	if !testkit.HasByteLocks() {
		t.Skip("not on this system: open-file-description locks")
	}
}

// script returns a command that runs a script in which NAME is the semaphore's name, and
// procsem this binary.
func script(t *testing.T, shell, name, text string) *exec.Cmd {
	t.Helper()
	testkit.NeedTool(t, shell)
	cmd := procsemCommand(t)
	cmd.Path, cmd.Args = "/usr/bin/env", []string{"env", shell, "-c", strings.ReplaceAll(text, "NAME", name)}
	return cmd
}

// What a script has locked stays taken until it unlocks it, closes the descriptor, or ends, and with
// it all that have inherited the descriptor.
func TestLockInScript(t *testing.T) {
	needOpenFileLocks(t)
	inPath(t)
	const lock = `exec 9<>"$(procsem path NAME)"; procsem lock --fd 9 NAME || exit 9; `
	const taken = `procsem run -w 0 NAME true 2>/dev/null && echo not taken; `
	const free = `procsem run -w 20 NAME true || echo not free; `
	for what, text := range map[string]string{
		"locks twice at once": `procsem create -n 2 NAME; exec 9<>"$(procsem path NAME)"; procsem lock --fd 9 NAME 2>/dev/null & procsem lock --fd 9 NAME 2>/dev/null; wait; procsem resize NAME 1; exec 9>&-; ` + free + `echo free`,
		"unlocks":             lock + taken + `procsem unlock --fd 9 NAME; ` + `procsem run -w 0 NAME echo free`,
		"closes":              lock + taken + `exec 9>&-; ` + free + `echo free`,
		"locks again":         lock + `procsem unlock --fd 9 NAME; procsem lock --fd 9 NAME; ` + taken + `exec 9>&-; ` + free + `echo free`,
		"ends":                `(` + lock + taken + `); ` + free + `echo free`,
		"is killed":           `(` + lock + taken + `kill -9 $BASHPID); ` + free + `echo free`,
		"leaves a child":      `(` + lock + `sleep 100 & echo $! >"$file"); ` + taken + `kill -9 $(cat "$file"); ` + free + `echo free`,
		"leaves another file": `(` + lock + `exec 8<>"$(procsem path NAME)"; sleep 100 9>&- & echo $! >"$file"); ` + free + `kill -9 $(cat "$file"); echo free`,
		"another process":     `(` + lock + `procsem run -w 0 NAME true && echo not taken); (` + lock + taken + `); ` + free + `echo free`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			name := newName(t)
			cmd := script(t, "bash", name, text)
			cmd.Env = append(cmd.Env, "file="+t.TempDir()+"/pid")
			if got := runCmd(t, cmd); got.status != 0 || got.stdout != "free\n" {
				t.Errorf("got %+v, want free", got)
			}
			checkValue(t, name, 1)
		})
	}
}

// lock waits in the order of all others, gives up as run does, and takes nothing when a signal ends it.
func TestLockWaits(t *testing.T) {
	needOpenFileLocks(t)
	inPath(t)
	name, s := newRecoverable(t, 1)
	if err := s.TryWait(); err != nil {
		t.Fatal(err)
	}
	const open = `exec 9<>"$(procsem path NAME)"; `
	if got := runCmd(t, script(t, "bash", name, open+"procsem lock --fd 9 -w 0 -E 7 NAME")); got.status != 7 || !strings.Contains(got.stderr, "no permit of") {
		t.Errorf("it is held: %+v, want status 7", got)
	}
	signalled := script(t, "bash", name, open+"exec procsem lock --fd 9 NAME")
	start(t, signalled)
	waitUntilWaiting(t, name, 1)
	if err := signalled.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, signalled); got.signal != syscall.SIGTERM {
		t.Errorf("got %+v, want the death of SIGTERM", got)
	}
	waits := script(t, "bash", name, open+"procsem lock --fd 9 NAME && procsem run -w 0 NAME true; echo $?")
	out, err := waits.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, waits)
	waitUntilWaiting(t, name, 1)
	if err := s.Post(); err != nil {
		t.Fatal(err)
	}
	readLines(out).want(t, "75") // of run, beside the lock
	wait(t, waits)
}

// waitUntilWaiting waits until so many wait for a permit.
func waitUntilWaiting(t *testing.T, name string, n int) {
	t.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(time.Millisecond) {
		o, err := observe(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, waiters := o.count(); waiters == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no %d waiters", n)
		}
	}
}

// show lists the script as the holder.
func TestShowsLockOfScript(t *testing.T) {
	needOpenFileLocks(t)
	inPath(t)
	name := newName(t)
	got := runCmd(t, script(t, "bash", name, `exec 9<>"$(procsem path NAME)"; procsem lock --fd 9 NAME; procsem show NAME; echo $$`))
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	pid := lines[len(lines)-1]
	if got.status != 0 || !strings.Contains(got.stdout, "\n"+pid+" ") || !strings.Contains(got.stdout, "exec 9<>") {
		t.Errorf("got %+v, want process %s as the holder", got, pid)
	}
}

// Each mistake is an error that says what to type.
func TestLockMistakes(t *testing.T) {
	needOpenFileLocks(t)
	inPath(t)
	name, other := newName(t), newName(t)
	bare := newSemaphore(t, 1)
	for _, tt := range []struct {
		text   string
		status int
		says   string
	}{
		{`procsem lock NAME`, 64, "--fd is missing"},
		{`procsem lock --fd 9`, 64, "is missing"},
		{`procsem lock --fd x NAME`, 64, `--fd "x"`},
		{`procsem lock --fd -1 NAME`, 64, `--fd "-1"`},
		{`procsem lock --fd 9 NAME`, 64, `exec 9<>"$(procsem path NAME)"`},
		{`exec 9</dev/null; procsem lock --fd 9 NAME`, 65, "descriptor 9 is not the file"},
		{`exec 9<>"$(procsem path OTHER)"; procsem lock --fd 9 NAME`, 65, "descriptor 9 is not the file"},
		{`exec 9<>"$(procsem path NAME)"; procsem unlink NAME; procsem path NAME >/dev/null; procsem lock --fd 9 NAME`, 65, "opened before that was removed"},
		{`exec 9<"$(procsem path NAME)"; procsem lock --fd 9 NAME`, 64, "not open for writing"},
		{`exec 9<>"$(procsem path NAME)"; procsem lock --fd 9 NAME; procsem lock --fd 9 NAME`, 64, "has a permit of \"NAME\" already"},
		{`exec 9<>"$(procsem path NAME)"; procsem unlock --fd 9 NAME`, 71, "descriptor 9 has no permit"},
		{`procsem path BARE`, 65, "POSIX semaphore"},
		{`procsem run NAME bash -c 'for fd in /proc/self/fd/*; do case $(readlink $fd) in */rec.NAME) ` + helperEnv + `=1 procsem unlock --fd ${fd##*/} NAME; exit;; esac; done'`, 64, "the lock of a handle"},
	} {
		replace := strings.NewReplacer("NAME", name, "OTHER", other, "BARE", bare).Replace
		got := runCmd(t, script(t, "bash", name, replace(tt.text)))
		if got.status != tt.status || !isOneLine(got.stderr) || !strings.Contains(got.stderr, replace(tt.says)) {
			t.Errorf("%s: got %+v, want status %d and one line with %q", tt.text, got, tt.status, tt.says)
		}
	}
}

// Wherever lock and unlock are killed, never more than the limit are held, and what is held comes back when the descriptor
// is closed.
func TestLockIsKilled(t *testing.T) {
	needOpenFileLocks(t)
	const limit, kills = 2, 60
	name, s := newRecoverable(t, limit)
	files := make([]*os.File, limit+1)
	for i := range files {
		path, err := pathOf(name)
		if err != nil {
			t.Fatal(err)
		}
		if files[i], err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
			t.Fatal(err)
		}
		defer files[i].Close()
	}
	held := func() (n int) {
		for _, f := range files {
			one, err := handed{name: name, file: f}.permits(false)
			if err != nil {
				t.Fatal(err)
			}
			n += one
		}
		return n
	}
	for i := range kills {
		command := []string{"lock", "unlock"}[rand.IntN(2)]
		cmd := procsemCommand(t, command, "--fd", "3", name)
		if command == "lock" {
			cmd = procsemCommand(t, command, "-w", "0", "--fd", "3", name)
		}
		cmd.ExtraFiles = []*os.File{files[rand.IntN(len(files))]}
		start(t, cmd)
		if i%3 > 0 {
			time.Sleep(time.Duration(rand.Int64N(int64(8 * time.Millisecond)))) // the moment to be killed at
			cmd.Process.Kill()
		}
		wait(t, cmd)
		value, err := s.Value()
		if n := held(); err != nil || n > limit || value != limit-n {
			t.Fatalf("after %d kills: value %d, %v, and %d are held", i, value, err, n)
		}
	}
	for _, f := range files {
		f.Close()
	}
	if value, err := s.Value(); value != limit || err != nil {
		t.Errorf("%d of %d came back, %v", value, limit, err)
	}
}

// A script locks beside what it guards.
func TestLockInDirectory(t *testing.T) {
	needOpenFileLocks(t)
	inPath(t)
	usual := storeOf(t)
	for how, text := range map[string]string{
		"unlocks":       `procsem unlock --dir . --fd 9 NAME; procsem --dir . run -w 0 NAME echo free`,
		"closes":        `exec 9>&-; procsem run --dir . -w 20 NAME echo free`,
		"holds another": `procsem run -w 0 NAME true || exit; procsem --dir . run -w 0 NAME true 2>/dev/null || procsem --dir . run NAME true 2>/dev/null; [ $? = 70 ] && echo free`,
		"another's":     `procsem lock --fd 9 NAME 2>/dev/null; [ $? = 65 ] && echo free`,
	} {
		t.Run(how, func(t *testing.T) {
			cmd := script(t, "bash", "x", `exec 9<>"$(procsem --dir . path NAME)"; procsem --dir . lock --fd 9 NAME || exit 9; procsem run --dir . -w 0 NAME true 2>/dev/null && echo not taken; `+text)
			cmd.Dir = t.TempDir()
			if got := runCmd(t, cmd); got.status != 0 || got.stdout != "free\n" {
				t.Errorf("got %+v, want free", got)
			}
		})
	}
	if left := filesIn(t, usual); len(left) > 1 { // of "holds another"
		t.Errorf("in the usual directory: %v", left)
	}
}
