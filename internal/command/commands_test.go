//go:build unix || windows

package command

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/names"
)

func TestRoundTrip(t *testing.T) {
	roundTrip(t, newName(t), []step{
		{"value", 66, "", "no such semaphore"},
		{"wait", 66, "", "no such semaphore"},
		{"try", 66, "", "no such semaphore"},
		{"post", 66, "", "no such semaphore"},
		{"unlink", 66, "", "no such semaphore"},
		{"create -n 4", 0, "", ""},
		{"value", 0, "4\n", ""},
		{"create", 0, "", "exists: its limit is 4"},
		{"create -x", 73, "", "exists"},
		{"create -n 4", 0, "", "exists: its limit is 4"},
		{"create -n 5", 0, "", "exists: its limit was 4 and is 5 now"}, // no process had it open
		{"value", 0, "5\n", ""},
		{"unlink", 0, "", ""},
		{"show", 66, "", "no such semaphore"},
	})
}

// A leading slash means nothing, to any command.
func TestLeadingSlash(t *testing.T) {
	name := newName(t)
	roundTrip(t, "/"+name, []step{
		{"create -n 4", 0, "", ""},
		{"create -n 5", 0, "", name + " exists: its limit was 4 and is 5 now"},
		{"value", 0, "5\n", ""},
		{"show", 0, "name   " + name + "\nkind   recoverable\nlimit  5\nfree   5\n", ""},
		{"run --mode 0600 -c exit", 0, "", ""},
	})
	if got := run(t, "resize", "/"+name, "6"); got.status != 0 {
		t.Errorf("resize: %+v", got)
	}
	roundTrip(t, name, []step{{"value", 0, "6\n", ""}})
	roundTrip(t, "/"+name, []step{{"unlink", 0, "", ""}, {"show", 66, "", "no such semaphore"}})
}

func TestRoundTripOfPOSIX(t *testing.T) {
	var name string
	if posixLasts {
		name = newName(t)
		roundTrip(t, name, []step{{"create -n 0 --posix", 0, "", ""}})
	} else {
		name = newSemaphore(t, 0)
	}
	roundTrip(t, name, []step{
		{"value", 0, "0\n", ""},
		{"try", 75, "", "no permit"},
		{"try -E 1", 1, "", "no permit"},
		{"wait -w 0", 75, "", "no permit"},
		{"wait -w 0.01 -E 8", 8, "", "within 10ms"},
		{"post", 0, "", ""},
		{"post", 0, "", ""},
		{"value", 0, "2\n", ""},
		{"wait", 0, "", ""},
		{"try", 0, "", ""},
		{"value", 0, "0\n", ""},
		{"create --posix -n 3", 0, "", "exists"},
		{"create --posix -x", 73, "", "exists"},
		{"value", 0, "0\n", ""},
	})
	if posixLasts {
		roundTrip(t, name, []step{
			{"unlink", 0, "", ""},
			{"create --posix --exclusive", 0, "", ""},
			{"value", 0, "1\n", ""},
			{"unlink", 0, "", ""},
		})
		return
	}
	roundTrip(t, name, []step{{"unlink", 69, "", "gone when nobody has it open"}})
	roundTrip(t, newName(t), []step{
		{"create --posix", 69, "", "gone when nobody has it open"},
		{"create --posix -x", 69, "", "gone when nobody has it open"},
		{"value", 66, "", "no such semaphore"},
	})
}

// A step is a command, to which the semaphore's name is appended, and its outcome.
type step struct {
	command string
	status  int
	stdout  string
	says    string // part of the line on stderr, "" for none
}

func roundTrip(t *testing.T, name string, steps []step) {
	t.Helper()
	for _, step := range steps {
		got := run(t, append(strings.Fields(step.command), name)...)
		want := outcome{status: step.status, stdout: step.stdout, stderr: got.stderr}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(outcome{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.command, diff)
		}
		if step.says == "" && got.stderr != "" || step.says != "" && (!isOneLine(got.stderr) || !strings.Contains(got.stderr, step.says)) {
			t.Errorf("%s: stderr = %q, want %q in one line", step.command, got.stderr, step.says)
		}
	}
}

func TestWaitReturnsAfterPost(t *testing.T) {
	name := newSemaphore(t, 0)
	cmd := procsemCommand(t, "wait", name)
	start(t, cmd)
	if got := run(t, "post", name); got.status != 0 {
		t.Fatalf("post: %+v", got)
	}
	if got := wait(t, cmd); got.status != 0 {
		t.Errorf("wait: %+v", got)
	}
	checkValue(t, name, 0)
}

func TestUsageErrors(t *testing.T) {
	dir := tempDir(t)
	for _, tt := range []struct {
		args string
		says string
	}{
		{"", "no command given"},
		{"frobnicate", `unknown command "frobnicate"; allowed are run, create`},
		{"--frobnicate", "frobnicate"},
		{"help frobnicate", "frobnicate"},
		{"run", "NAME is missing"},
		{"run --", "NAME is missing"},
		{"run -- true", `no command to run after the NAME, "true"`},
		{"run a", `no command to run after the NAME, "a"; or a shell line: -c LINE`},
		{"run a -n 2 -- true", `-n after the NAME, "a": options come before it`},
		{"run a --limit=2 true", `--limit=2 after the NAME, "a"`},
		{"run -n a true", `"a": a whole number from 1 to 65535`},
		{"run a -c", "-c needs an argument: LINE"},
		{"run -c", "-c needs an argument: LINE"},
		{"run -c true", "NAME is missing"},
		{"run -c sleep 1 a", `both -c "sleep" and a command (a)`},
		{"run a -c sleep 1", `both -c "sleep" and a command (1)`},
		{"run --limt 2 a true", "unknown option --limt; did you mean --limit?"},
		{"run -nF 2 a true", `"F": a whole number`},
		{"run -Fz a true", "unknown option -z"},
		{"run --timeout", "-w needs an argument: TIME"},
		{"rum a true", `unknown command "rum"; did you mean run?`},
		{"rum -n 4 a true", `unknown command "rum"; did you mean run?`},
		{"lsit", `unknown command "lsit"; did you mean list`},
		{"help run a", `unknown command`},
		{"man", "a DIRECTORY is needed"},
		{"man a b", "a DIRECTORY is needed"},
		{"run a --", "no command after --"},
		{"run a -c true -- true", `both -c "true" and a command`},
		{"run --frobnicate a true", "frobnicate"},
		{"run -n 0 a true", `"0": a whole number from 1 to 65535`},
		{"run --posix -n 0 a true", `"0": a whole number from 1 to 2147483647`},
		{"run -n 65536 a true", `"65536"`},
		{"run -n -x a true", `"-x"`},
		{"run -n four a true", `"four"`},
		{"run -n 1.5 a true", `"1.5"`},
		{"run --posix -n 2147483648 a true", `"2147483648"`},
		{"run -k 0 a true", `"0": a whole number from 1 to the limit, or "all"`},
		{"run -k -1 a true", `"-1"`},
		{"run -k every a true", `"every"`},
		{"run -k 3 -n 2 a true", "-k 3 is more than the limit, -n 2"},
		{"run --posix -k 2 a true", "-k 2 and --posix; only the permits of recoverable semaphores have owners"},
		{"run --posix -k all a true", "-k all and --posix"},
		{"run --also", "--also needs an argument: NAME[=N]"},
		{"run --also b", "NAME is missing"},
		{"run --also= a true", `the name "": invalid name: it is empty`},
		{"run --also =2 a true", `the name "": invalid name: it is empty`},
		{"run --also b= a true", `--also b=: the limit "": a whole number from 1 to 65535`},
		{"run --also b=0 a true", `--also b=0: the limit "0"`},
		{"run --also b=two a true", `--also b=two: the limit "two"`},
		{"run --also b/c a true", "slash"},
		{"run --also a a true", "--also a: that is the NAME, too; -k 2 takes two permits of it"},
		{"run --also /a=2 a true", "--also /a=2: that is the NAME, too"},
		{"run --also b --also b=2 a true", `--also b=2: "b" is there twice; one --also for each name`},
		{"run --also b --posix a true", "--also and --posix; only recoverable semaphores"},
		{"run a --also b true", `--also after the NAME, "a": options come before it`},
		{"create --also b a", "unknown option --also"},
		{"lock --also b a", "unknown option --also"},
		{"run --bg", "NAME is missing"},
		{"run --bg a", `no command to run after the NAME, "a"`},
		{"run --bg=perhaps a true", `--bg takes no argument but true or false: "perhaps"`},
		{"run a --bg true", `--bg after the NAME, "a": options come before it`},
		{"run --bg --posix --also b a true", "--also and --posix"},
		{"wait --bg a", "unknown option --bg"},
		{"run --no-fork --posix a true", "--no-fork and --posix"},
		{"run -F -o a true", "--no-fork and --close"},
		{"run --posix --label x a true", "--label and --posix"},
		{"run --label 123456789012345678901234567890123 a true", `--label "123456789012345678901234567890123": it has 33 bytes; a label is UTF-8 of at most 32 bytes`},
		{"run -n 99999999999999999999 a true", "from 1 to"},
		{"run -w -1 a true", `--timeout "-1": seconds`},
		{"run -w -1s a true", `"-1s"`},
		{"run -w soon a true", `"soon"`},
		{"run -w . a true", `"."`},
		{"run --timeout= a true", `""`},
		{"run -w 1e3 a true", `"1e3"`},
		{"run -w NaN a true", `"NaN"`},
		{"run -w 99999999999 a true", `"99999999999"`},
		{"run -E 256 a true", `"256": an exit status from 0 to 255`},
		{"run -E -1 a true", `"-1"`},
		{"run --every 0 a true", "--every 0: a time of more than 0"},
		{"run --every 0.0 a true", "--every 0.0: a time of more than 0"},
		{"run --every -1 a true", `--every "-1"`},
		{"run --every soon a true", `--every "soon": seconds (30, 0.5) or a time`},
		{"run --every 300y a true", `--every "300y"`},
		{"run --every 99999999999 a true", `--every "99999999999"`},
		{"run --every= a true", `--every ""`},
		{"run --every", "--every needs an argument: TIME"},
		{"run --every 1h", "NAME is missing"},
		{"run a --every 1h true", "--every after the NAME"},
		{"run --posix --every 1h a true", "--every and --posix"},
		{"run --max-hold 0 a true", "--max-hold 0: a time of more than 0"},
		{"run --max-hold soon a true", `--max-hold "soon"`},
		{"run --kill-after 1 a true", "--kill-after without --max-hold"},
		{"run --max-hold 1 --kill-after 0 a true", "--kill-after 0"},
		{"run -F --max-hold 1 a true", "--no-fork and --max-hold"},
		{"run a/b -- true", "slash"},
		{"run .. -- true", "directory"},
		{"create", "NAME is missing"},
		{"create a b", "2 names (a, b)"},
		{"create -n 0 a", "from 1 to 65535"},
		{"create --posix -n -x a", "from 0 to 2147483647"},
		{"create --from", "--from needs an argument: FILE"},
		{"create --from f a", "--from f and a NAME (a); the names are in the file"},
		{"create --from f -n 2", "--from and --limit; each line of the file says"},
		{"create -j 2 --from f", "--from and --jobs"},
		{"create --mode 0666 --from f", "--from and --mode"},
		{"create -x --from f", "--from and --exclusive"},
		{"create --posix --from f", "--from and --posix"},
		{"create --mode 0800 a", `"0800": permission bits in octal`},
		{"create --mode 01777 a", "0 to 0777"},
		{"create --mode rw a", `"rw"`},
		{"create --posix=perhaps a", "perhaps"},
		{"wait", "NAME is missing"},
		{"wait a b", "2 names"},
		{"wait -w x a", `"x"`},
		{"try -w 3 a", "-w"},
		{"try -E x a", `"x"`},
		{"post", "NAME is missing"},
		{"post -n 2 a", "-n"},
		{"value", "NAME is missing"},
		{"value a/b", "slash"},
		{"unlink", "the NAME of a semaphore is missing, or --idle"},
		{"unlink --idle a", "--idle is instead of NAMEs"},
		{"unlink --idle -f", "--idle is instead of NAMEs"},
		{"unlink a b/c", "slash"},
		{"unlink -x a", "unknown option -x"},
		{"run -q -v a true", "-q and -v; one of them is allowed"},
		{"lock -qv --fd 9 a", "-q and -v"},
		{"wait -vq a", "-q and -v"},
		{"create -v a", "unknown option -v"},
		{"try -v a", "unknown option -v"},
		{"watch --wide a", "unknown option --wide"},
		{"show --widee a", "did you mean --wide?"},
		{"watch a b", "2 names (a, b)"},
		{"watch a/b", "slash"},
		{"watch --json a", "unknown option --json"},
		{"wach a", `unknown command "wach"; did you mean watch or`},
		{"list a", "show NAME"},
		{"list --prometheus a", "show NAME"},
		{"list --json --prometheus", "--json and --prometheus; one of them is allowed"},
		{"list --promethius", "unknown option --promethius; did you mean --prometheus?"},
		{"show", "NAME is missing"},
		{"show a b", "2 names"},
		{"resize a", "NAME and N are needed"},
		{"resize", "NAME and N are needed"},
		{"resize --default", "with --default NAME is needed"},
		{"resize --default a 2", "with --default NAME is needed and no N"},
		{"resize a 1 2", "NAME and N are needed"},
		{"resize a/b 1", "slash"},
		{"resize a 65536", `"65536": a whole number from 0 to 65535`},
		{"resize a x", `"x"`},
		{"resize -n 5 a", "unknown option -n"},
		{"resize a 99999%", `"99999%"`},
		{"Run a true", `unknown command "Run"; did you mean run or `},
		{"exec a true", `unknown command "exec"`},
		{"lst", `did you mean list or `},
		{"delete a", `unknown command "delete"`},
		{"run -n4x a true", `"4x"`},
		{"run -j 0 a true", `"0": a whole number from 1`},
		{"run --jobs four a true", `"four"`},
		{"run -n 0% -n 65536% a true", `"65536%"`},
		{"run -N 4 a true", "unknown option -N"},
		{"run -s a true", "unknown option -s"},
		{"run --nonblock a true", "unknown option --nonblock"},
		{"run --time 5 a true", "unknown option --time"},
		{"run --timout 5 a true", "did you mean --timeout?"},
		{"run -w 5x a true", `"5x"`},
		{"run -w 1:30 a true", `"1:30"`},
		{"run -w -n 4 a true", `--timeout "-n"`},
		{"run -k 2.5 a true", `"2.5"`},
		{"run --mode 8 a true", `"8": permission bits in octal`},
		{"run --mode u=rw a true", `"u=rw"`},
		{"run --close=maybe a true", "maybe"},
		{"create -n 1e3 a", `"1e3"`},
		{"create --mod 0666 a", "did you mean --mode?"},
		{"create a -- b", "2 names (a, b)"},
		{"wait --idle", "NAME is missing"},
		{"wait --idle a b", "2 names"},
		{"wait --idel a", "did you mean --idle?"},
		{"wait -n 2 a", "unknown option -n"},
		{"try", "NAME is missing"},
		{"try a b", "2 names"},
		{"post a b", "2 names"},
		{"post a 2", "2 names (a, 2); one NAME"},
		{"value a b", "2 names"},
		{"value --json a", "unknown option --json"},
		{"value --base64 ?", `--base64 "?": it is not base64`},
		{"show --jsno a", "did you mean --json?"},
		{"path", "NAME is missing"},
		{"path a b", "2 names"},
		{"path -n 0 a", `"0": a whole number from 1`},
		{"lock", "NAME is missing"},
		{"lock a", "--fd is missing"},
		{"lock --fd nine a", `--fd "nine": the number of an open descriptor`},
		{"lock 9", "--fd is missing"},
		{"lock --fd -1 a", `--fd "-1"`},
		{"unlock", "NAME is missing"},
		{"unlock a", "--fd is missing"},
		{"--dir", "--dir needs an argument: DIR"},
		{"list --dir", "--dir needs an argument: DIR"},
		{"--dir= list", `--dir "": the path of a directory is needed`},
		{"run --dir= a true", `--dir "": the path of a directory is needed`},
		{"--dir .", "no command given"},
		{"--dir . frobnicate", `unknown command "frobnicate"`},
		{"--dir . lsit", `unknown command "lsit"; did you mean list`},
		{"--dir . rum -n 4 a true", `unknown command "rum"; did you mean run?`},
		{"--dir . --frobnicate list", "unknown option --frobnicate"},
		{"--dri . list", "unknown option --dri; did you mean --dir?"},
		{"run --dri . a true", "unknown option --dri; did you mean --dir?"},
		{"-d . list", "unknown option -d"},
		{"--dir . run a", `no command to run after the NAME, "a"`},
		{"run a --dir . true", `--dir after the NAME, "a": options come before it`},
		{"--dir . run --posix a true", "--dir and --posix; only recoverable semaphores"},
		{"run --posix --dir . a true", "--dir and --posix"},
		{"create --posix --dir . a", "--dir and --posix"},
		{"--dir . resize a", "NAME and N are needed"},
		{"--dir . create --from f -n 2", "--from and --limit"},
		{"--dir . list --directory", "unknown option --directory"},
		{"completion", "one of bash, zsh, fish, powershell is needed"},
		{"completion tcsh", "one of bash, zsh, fish, powershell is needed"},
		{"completion bash zsh", "one of bash"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			cmd := procsemCommand(t, strings.Fields(tt.args)...)
			cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
			got := runCmd(t, cmd)
			if got.status != 64 || got.stdout != "" || !isOneLine(got.stderr) || !strings.Contains(got.stderr, tt.says) || !strings.Contains(got.stderr, "--help") {
				t.Errorf("got %+v, want status 64 and one line on stderr with %q and a hint to --help", got, tt.says)
			}
		})
	}
}

// A semaphore may have the name of a command that the parser adds by itself.
func TestSemaphoreNamedHelp(t *testing.T) {
	cmd := procsemCommand(t, "value", "help")
	if got := runCmd(t, cmd); got.status == 0 && strings.Contains(got.stdout, "USAGE") {
		t.Errorf("value help printed the help: %+v", got)
	}
}

func TestHelpMentionsEveryExitStatus(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"help"}, {"run", "--help"}, {"help", "run"}} {
		got := run(t, args...)
		if got.status != 0 || got.stderr != "" {
			t.Errorf("%q: got %+v, want status 0 and nothing on stderr", args, got)
		}
		for _, status := range []int{0, statusUsage, statusDataErr, statusNoInput, statusUnavailable, statusDeadlock, statusOSErr,
			statusCantCreate, statusTempFail, statusNoPerm, statusConfig, statusTimedOut, statusCannotExec, statusNotFound} {
			if !strings.Contains(got.stdout, fmt.Sprintf("\n%d - ", status)) {
				t.Errorf("%q does not explain exit status %d", args, status)
			}
		}
		if !strings.Contains(got.stdout, "128+") {
			t.Errorf("%q does not explain 128+N", args)
		}
	}
}

func TestVersion(t *testing.T) {
	got := run(t, "--version")
	if want := "procsem version " + version() + "\n"; got.status != 0 || got.stdout != want {
		t.Errorf("got %+v, want %q", got, want)
	}
}

func TestStatusOfErrors(t *testing.T) {
	for err, want := range map[error]int{
		semaphore.ErrInvalidName:   64,
		semaphore.ErrInvalidOption: 64,
		semaphore.ErrCorrupt:       65,
		semaphore.ErrKindMismatch:  65,
		semaphore.ErrLimitMismatch: 78,
		fs.ErrNotExist:             66,
		semaphore.ErrUnsupported:   69,
		semaphore.ErrOverflow:      71,
		fs.ErrExist:                73,
		fs.ErrPermission:           77,
	} {
		wrapped := &semaphore.Error{Op: "open", Name: "x", Err: fmt.Errorf("because: %w", err)}
		if got := statusOf(wrapped); got != want {
			t.Errorf("statusOf(%v) = %d, want %d", err, got, want)
		}
	}
}

func TestParseTime(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"0": 0, "30": 30 * time.Second, "0.5": time.Second / 2, ".5": time.Second / 2,
		"1m30s": 90 * time.Second, "10ms": 10 * time.Millisecond, "0s": 0, "1d": 24 * time.Hour, "5min": 5 * time.Minute,
		"5 min": 5 * time.Minute, "1d12h": 36 * time.Hour, "1d 12h": 36 * time.Hour, "1.5 hours": 90 * time.Minute, "2w": 336 * time.Hour,
		"2562047h": 2562047 * time.Hour,
	} {
		if got, err := parseTime("-w", s); err != nil || got != want {
			t.Errorf("parseTime(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", " ", ".", "-1", "-1s", "+1", "1x", "1 2", "1..5s", "s", "1m30", "1e3", "0x10", "NaN", "Inf", "2562048h", "99999999999", "1d1"} {
		if got, err := parseTime("-w", s); err == nil {
			t.Errorf("parseTime(%q) = %v, want an error", s, got)
		}
	}
}

func TestParseLimit(t *testing.T) {
	n := processors()
	for s, want := range map[string]int{
		"1": 1, "7": 7, "65535": 65535, "100%": n, "50%": max(1, n/2), "1%": max(1, n/100), "300%": 3 * n, "+0": n, "+2": n + 2, "-0": n, "-1": max(1, n-1), "-99999": 1, "0%": 1,
	} {
		if got, err := parseLimit(1, 65535)("-n", s); err != nil || got != want {
			t.Errorf("parseLimit(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "%", "0", "-", "+", "65536", "+65535", "-5%", "5%%", "99999999999999999999", "9999999%", "1.5", "1.5%", "half"} {
		if got, err := parseLimit(1, 65535)("-n", s); err == nil {
			t.Errorf("parseLimit(%q) = %v, want an error", s, got)
		}
	}
}

func TestDamagedSemaphoreIsDataError(t *testing.T) {
	prefixes := []string{names.Recoverable}
	if runtime.GOOS != "windows" {
		prefixes = append(prefixes, names.Flock)
	}
	for _, prefix := range prefixes {
		name, dir := newName(t), tempDir(t)
		if err := os.WriteFile(filepath.Join(dir, names.FileName(prefix, name)), []byte("hello"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := procsemCommand(t, "value", name)
		cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
		if got := runCmd(t, cmd); got.status != 65 || !isOneLine(got.stderr) {
			t.Errorf("%s: got %+v, want status 65 and a line on stderr", prefix, got)
		}
		// list's line about it has no name of a package either.
		cmd = procsemCommand(t, "list")
		cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
		if got := runCmd(t, cmd); got.status != 0 || !strings.Contains(got.stdout, "-  not a semaphore") {
			t.Errorf("%s: list prints %+v", prefix, got)
		}
	}
}

// Each command has the documented status if SEMAPHORE_DIR is no directory.
func TestStatusWithoutDirectory(t *testing.T) {
	dir := tempDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dirs := map[string]string{"missing": filepath.Join(dir, "none"), "file": file, "below a file": filepath.Join(file, "x")}
	for what, target := range map[string]string{"dangling link": "none", "endless link": "endless link", "link to a file": "file"} {
		link := filepath.Join(dir, what)
		if err := os.Symlink(target, link); err != nil {
			t.Logf("no symbolic links here: %v", err)
			break
		}
		dirs[what] = link
	}
	for what, dir := range dirs {
		for _, command := range []string{"run NAME -c exit", "run -F NAME -c exit", "create NAME", "create -x NAME", "list", "list --prometheus", "list --json", "show NAME", "value NAME", "resize NAME 2", "wait NAME", "try NAME", "post NAME", "unlink NAME", "unlink -f NAME", "unlink --idle", "watch", "watch NAME"} {
			if strings.Contains(command, "-F") && !canBecome {
				continue
			}
			t.Run(what+" "+command, func(t *testing.T) {
				cmd := procsemCommand(t, strings.Fields(strings.ReplaceAll(command, "NAME", newName(t)))...)
				cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
				got := runCmd(t, cmd)
				if got.status != 66 || got.stdout != "" || !isOneLine(got.stderr) || !strings.Contains(got.stderr, "SEMAPHORE_DIR") {
					t.Errorf("got %+v, want status 66 and one line on stderr about SEMAPHORE_DIR", got)
				}
			})
		}
	}
}

// The messages of refusals speak of flags and commands, not of what the library offers to
// programs in Go.
func TestMessagesSpeakOfFlags(t *testing.T) {
	name, s := newRecoverable(t, 2)
	bare := newSemaphore(t, 1)
	inGo := regexp.MustCompile(`With[A-Z]|Err[A-Z]|Engine|engine|checkname|fork/exec|: semaphore: |file does not exist|file already exists`)
	check := func(got, says string) {
		t.Helper()
		if found := inGo.FindString(got); found != "" || !isOneLine(got) || !strings.Contains(got, says) {
			t.Errorf("%q says %q; want one line, without that, with %q", got, found, says)
		}
	}
	for _, tt := range []struct{ command, says string }{
		{"create", "exists: its limit is 2"},
		{"create -x", "exists"},
		{"run -n 3 -c exit", "procsem resize NAME 3"},
		{"create -n 3", "procsem resize NAME 3"},
		{"run --posix -c exit", "omit --posix"},
		{"create --posix", "omit --posix"},
		{"wait", "procsem run NAME -- command"},
		{"post", "procsem run NAME -- command"},
	} {
		args := strings.Fields(tt.command)
		check(run(t, append(args, name)...).stderr, strings.ReplaceAll(tt.says, "NAME", name))
	}
	for _, tt := range []struct{ command, says string }{
		{"run -c exit", "add --posix"},
		{"create", "add --posix"},
	} {
		check(run(t, append(strings.Fields(tt.command), bare)...).stderr, tt.says)
	}
	check(run(t, "resize", bare, "2").stderr, "only recoverable semaphores have a limit")
	check(run(t, "run", "", "-c", "exit").stderr, `the name ""`)
	check(run(t, "resize", "", "2").stderr, `the name ""`)
	check(run(t, "value", newName(t)).stderr, "no such semaphore")
	check(run(t, "run", newName(t), "--", tempDir(t)).stderr, "")
	cmd := procsemCommand(t, "show", "x")
	cmd.Env = append(cmd.Env, "SEMAPHORE_DIR=relative")
	check(runCmd(t, cmd).stderr, "must be an absolute path")
	stranger := &semaphore.Error{Op: "open", Name: name, Err: &engine.Stranger{Owner: "someone"}}
	check("procsem: "+message(opener{name: name}.advise(stranger))+"\n", "--mode 0666")
	exposed := &semaphore.Error{Op: "open", Name: name, Err: &engine.Exposed{Mode: 0o660, Asked: 0o600}}
	check("procsem: "+message(opener{name: name}.advise(exposed))+"\n", "add --mode 0660, and else remove it: procsem unlink "+name)

	// What create has changed: nobody has it open now.
	s.Close()
	check(run(t, "create", "-n", "5", name).stderr, "its limit was 2 and is 5 now")
	check(run(t, "create", "-n", "5", name).stderr, "its limit is 5")
}
