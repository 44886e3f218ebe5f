package command

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/procsem/semaphore/internal/testkit"
	"golang.org/x/sys/unix"
)

// What is drawn is looked at in tmux, a terminal whose screen can be read.

// A pane is a terminal in which bash runs. "$procsem" is procsem.
type pane struct {
	t      *testing.T
	socket string
}

func newPane(t *testing.T, width, height int) pane {
	t.Helper()
	testkit.NeedTool(t, "tmux")
	testkit.NeedTool(t, "bash")
	p := pane{t, filepath.Join(t.TempDir(), "tmux")}
	// As one word it would be run by the user's shell, which may stay as its parent.
	cmd := exec.Command("tmux", "-S", p.socket, "-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height), "bash", "--norc", "--noprofile")
	cmd.Env = append(procsemCommand(t).Env, "procsem="+self(t), "LC_ALL=C.UTF-8", "TERM=xterm", "SHELL=/bin/sh")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	t.Cleanup(func() { p.tmux("kill-server") })
	p.typed("PS1='$ '") // which bash does not take from root's environment
	return p
}

func (p pane) tmux(args ...string) string {
	p.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", p.socket}, args...)...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return string(out)
}

func (p pane) press(keys ...string) {
	p.t.Helper()
	p.tmux(append([]string{"send-keys"}, keys...)...)
}

// typed types a line.
func (p pane) typed(line string) {
	p.t.Helper()
	p.tmux("send-keys", "-l", line)
	p.press("Enter")
}

func (p pane) resize(width, height int) {
	p.t.Helper()
	p.tmux("resize-window", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height))
}

// screen returns what is to be seen, without empty lines at its end.
func (p pane) screen() string {
	p.t.Helper()
	return strings.TrimRight(p.tmux("capture-pane", "-p"), "\n ")
}

// shows waits until the whole screen matches, and returns it.
func (p pane) shows(what, whole string) string {
	p.t.Helper()
	re := regexp.MustCompile(`(?s)\A` + whole + `\z`)
	var screen string
	defer func() {
		if !re.MatchString(screen) {
			p.t.Logf("the screen, which should match %s:\n%s\n%s", re, screen, p.processes())
		}
	}()
	eventually(p.t, what, func() bool { screen = p.screen(); return re.MatchString(screen) })
	return screen
}

// processes describes those of the terminal and its settings, for when it shows something else than it should.
func (p pane) processes() string {
	tty := strings.TrimSpace(p.tmux("display-message", "-p", "#{pane_tty}"))
	out, _ := exec.Command("sh", "-c", `ps -t "${1#/dev/}" -L -o pid,lwp,pgid,tpgid,stat,pending,blocked,ignored,caught,wchan:20,args; stty -a <"$1"`, "sh", tty).CombinedOutput()
	return string(out)
}

// clear begins with an empty screen, that of a shell that is ready.
func (p pane) clear() {
	p.t.Helper()
	p.press("C-l")
	p.shows("a shell that is ready", `\$`)
}

// The line of a wait has the place and the holder, follows the terminal's size, makes way for Ctrl-Z and is
// gone when the wait ends, however that ends.
func TestWaitSpeaksOnTerminal(t *testing.T) {
	t.Parallel()
	name, dir := newName(t), t.TempDir()
	holder, command := startHolder(t, name, filepath.Join(dir, "held"), "--label", "deploy 4711")
	p := newPane(t, 150, 24)
	p.clear()
	p.typed(`"$procsem" run ` + name + " echo in")
	const typed = `\$ "\$procsem" run \S+ echo in\n`
	line := fmt.Sprintf(`procsem: %s: waiting, 1st of %%d, for %s; held by %d \(deploy 4711\) for %[2]s`, name, aTime, holder.Process.Pid)
	p.shows("the line", typed+fmt.Sprintf(line, 1))
	waiter, _ := startWaiter(t, name, filepath.Join(dir, "held"))
	p.shows("the line, when another one waits", typed+fmt.Sprintf(line, 2))

	p.resize(50, 24)
	// What was above it tmux moves out of the screen, as lines that are folded need more room.
	const above = `(\$ [^\n]*\n([^\n]{0,20}\n)?)?`
	p.shows("the line, cut", above+`procsem: [^\n]*…`)
	p.resize(150, 24)
	p.shows("the line, whole", above+fmt.Sprintf(line, 2))

	p.press("C-z")
	p.shows("no line while it is stopped", above+`\n?\[1\]\+  Stopped [^\n]*\n\$`)
	p.typed("fg")
	p.shows("the line when it is continued", above+`.*\$ fg\n[^\n]*\n`+fmt.Sprintf(line, 2))

	p.press("C-c")
	p.shows("no line after Ctrl-C", above+`.*\$ fg\n[^\n]*\n\n?\$`)

	p.clear()
	p.typed(`"$procsem" run -w 8 ` + name + " echo in")
	p.shows("the line", `.* echo in\n`+strings.Replace(fmt.Sprintf(line, 2), "1st", "2nd", 1))
	p.shows("giving up, and no line", `\$ .* echo in\nprocsem: no permit of "`+name+`" within 8s; held by \d+ \(deploy 4711\) for `+aTime+`\n\$`)

	p.clear()
	p.typed(`"$procsem" run ` + name + ` -c "echo in; read line; echo out"`)
	p.shows("the line", `.* echo out"\n`+strings.Replace(fmt.Sprintf(line, 2), "1st", "2nd", 1))
	kill(t, waiter.Process.Pid)
	wait(t, waiter)
	kill(t, command)
	p.shows("the command's output, and no line", `\$ .* echo out"\nin\n?`)
	// Signals do to procsem and its command what they did before.
	p.press("C-z")
	p.shows("the command stopped", `\$ .* echo out"\nin\n\^Z\n\[1\]\+  Stopped [^\n]*\n\$`)
	p.typed("fg")
	// An Enter that comes before the shell has given the terminal away ends no line for the command.
	end := regexp.MustCompile(`(?s)\A.* fg\n[^\n]*\n+out\n\$[\n$ ]*\z`)
	eventually(t, "the command's end", func() bool { p.press("Enter"); return end.MatchString(p.screen()) })
}

// Programs that have the whole screen run under procsem as without it: less, and vi, with Ctrl-Z and fg.
func TestProgramsOfTheWholeScreen(t *testing.T) {
	t.Parallel()
	testkit.NeedTool(t, "less")
	testkit.NeedTool(t, "vi")
	name, file := newName(t), filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(file, []byte("first\n"+strings.Repeat("line\n", 100)+"last\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const lastLine = `(\n[^\n]*)?` // in which they say something, or not
	const beginning = `first(\nline){8}` + lastLine
	p := newPane(t, 80, 10)
	p.typed("cd " + filepath.Dir(file)) // vi stops at a message that does not fit into a line, as that with a long path
	p.clear()
	p.typed(`"$procsem" run ` + name + " less text")
	p.shows("less", beginning)
	p.press("G")
	p.shows("the end of the file", `(line\n){8}last`+lastLine)
	// less goes on after Ctrl-C, but may lose what is typed just then.
	p.press("C-c")
	again := regexp.MustCompile(`(?s)\A` + beginning + `\z`)
	eventually(t, "the beginning", func() bool { p.press("g"); return again.MatchString(p.screen()) })
	p.press("q")
	p.shows("a shell that is ready", `\$ [^\n]*\n?[^\n]*\n\$`)

	p.clear()
	p.typed(`"$procsem" run ` + name + " vi -u NONE text")
	p.shows("vi", beginning)
	p.press("C-z")
	p.shows("vi stopped", `\$ [^\n]*\n(?:[^\n]*\n)*\[1\]\+  Stopped [^\n]*\n?[^\n]*\n\$`)
	checkValue(t, name, 0)
	p.typed("fg")
	p.shows("vi continued", beginning)
	p.press("O")
	p.tmux("send-keys", "-l", "above")
	p.shows("what was typed", `above\nfirst(\nline){7}`+lastLine)
	p.press("Escape")
	p.typed(":wq")
	eventually(t, "the permit is back", func() bool { return valueOf(t, name) == 1 })
	if text, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(text), "above\nfirst\nline\n") {
		t.Errorf("%.30q, %v; vi was to write a line more", text, err)
	}
}

// A procsem in the background draws nothing; nor does one with -q, which says nothing when it gives up.
func TestWaitSpeaksOnlyInForeground(t *testing.T) {
	t.Parallel()
	name := newName(t)
	_, command := startHolder(t, name, filepath.Join(t.TempDir(), "held"))
	p := newPane(t, 200, 24)
	p.clear()
	p.typed(`"$procsem" run ` + name + ` true & until "$procsem" list | grep -q "` + name + ` .* 1 *1$"; do :; done; clear; "$procsem" run ` + name + " true")
	p.shows("one line", `procsem: \S+: waiting, 2nd of 2, [^\n]*`)
	p.press("C-c")
	p.clear()
	p.typed(`kill %1; wait; clear; "$procsem" run -q -w 9 ` + name + ` true & sleep 0.1; "$procsem" run -w 10 ` + name + " true")
	p.shows("one line", `[^\n]*\nprocsem: \S+: waiting, \w+ of 2, [^\n]*`)
	p.shows("giving up without a word, and with one", `[^\n]*\n\n?procsem: no permit of \S+ within 10s[^\n]*\n(\[\d\]\+  Exit 75 [^\n]*\n)?\$`)
	kill(t, command)
}

// Nor does one draw that others share the foreground with: siblings, as of xargs or make, the end of a pipeline, or a
// script that has not waited. One that a script waits for does.
func TestWaitSpeaksOnlyAlone(t *testing.T) {
	t.Parallel()
	testkit.NeedTool(t, "xargs")
	name := newName(t)
	_, command := startHolder(t, name, filepath.Join(t.TempDir(), "held"))
	const line = `procsem: \S+: waiting, [^\n]*`
	// What a shell without job control runs stays in its process group.
	script := func(text string) string { return `sh -c '` + text + `; :'` }
	run := `"$procsem" run ` + name
	silent := map[string]string{
		`yes | head -3 | xargs -P 4 -I{} ` + run + ` echo done`: `done\ndone\ndone`,
		run + ` echo done | cat`:                                `done`,
		script(run + ` echo done & sleep 1000`):                 `done`,
		script(run + ` echo done & read line`):                  `done`,
	}
	var panes []pane
	var want []string
	for typed, printed := range silent {
		p := newPane(t, 150, 24)
		p.clear()
		p.typed(typed)
		panes, want = append(panes, p), append(want, regexp.QuoteMeta("$ "+typed)+`\n`+printed)
	}
	eventually(t, "they wait", func() bool { return len(shown(t, name).Waiters) == 6 })
	// By the time that another one has drawn, so had they.
	p := newPane(t, 150, 24)
	p.clear()
	p.typed(`clear; ` + script(run+` echo done`))
	p.shows("the line of the only one", line)
	for i, p := range panes {
		if screen := p.screen(); strings.Contains(screen, "procsem: ") {
			t.Errorf("%s\ndrawn:\n%s", want[i], screen)
		}
	}
	kill(t, command)
	p.shows("its output", `done\n\$`)
	for i, p := range panes {
		p.shows("their output", want[i]+`(\n\$)?`)
	}
}

// An erased line cannot be scrolled back to either.
func TestWaitLeavesNoLineInHistory(t *testing.T) {
	t.Parallel()
	name := newName(t)
	_, command := startHolder(t, name, filepath.Join(t.TempDir(), "held"))
	p := newPane(t, 150, 24)
	p.clear()
	p.typed(`clear; "$procsem" run ` + name + ` echo done`)
	p.shows("the line, in the top row", `procsem: \S+: waiting, [^\n]*`)
	kill(t, command)
	p.shows("no line", `done\n\$`)
	if all := p.tmux("capture-pane", "-p", "-S", "-"); strings.Contains(all, "waiting") {
		t.Errorf("what can be scrolled back to:\n%s", all)
	}
}

// watch shows what there is, as it changes, in a screen of its own, and leaves the terminal as it was.
func TestWatchOnScreen(t *testing.T) {
	t.Parallel()
	name, dir := newName(t), t.TempDir()
	first, _ := startHolder(t, name, filepath.Join(dir, "1"), "-n", "2")
	p := newPane(t, 100, 24)
	settings := func() string {
		t.Helper()
		p.clear()
		p.typed("stty -g")
		return p.shows("the terminal's settings", `\$ stty -g\n[^\n]+\n\$`)
	}
	before := settings()
	p.clear()
	watch := `"$procsem" watch ` + name
	p.typed(watch)
	row := func(pid int, file string) string {
		return fmt.Sprintf(`%d +\S+ +%s +0s +[01] +- +\d+ +\S+ \S+hold %s/%s\n?`, pid, aTime, dir, file)
	}
	head := `procsem watch ` + name + ` +\d\d:\d\d:\d\d\n\nname +` + name + `\n.*HOLDER  USER[^\n]*\n`
	p.resize(300, 24)
	p.shows("one holder", head+row(first.Process.Pid, "1"))
	second, command := startHolder(t, name, filepath.Join(dir, "2"))
	p.shows("two holders", head+row(first.Process.Pid, "1")+row(second.Process.Pid, "2"))
	kill(t, command)
	p.shows("one holder", head+row(first.Process.Pid, "1"))

	p.resize(60, 8)
	title := `procsem watch \S+ +\d\d:\d\d:\d\d\n\n`
	p.shows("a small screen", title+`name  .*\n\(lines 1 to 5 of 8; the arrows show the others\)`)
	for _, keys := range []string{"Down", "j"} {
		p.press(keys)
		p.shows("a line down", title+`kind  .*\n\(lines 2 to 6 of 8; the arrows show the others\)`)
		p.press("NPage")
		p.shows("the end", title+`free  .*HOLDER .*\n\d+ .*\n\(lines 4 to 8 of 8; the arrows show the others\)`)
		p.press("Up")
		p.shows("a line up", title+`limit  .*\n\(lines 3 to 7 of 8; the arrows show the others\)`)
		p.press("b")
		p.shows("the beginning", title+`name  .*\n\(lines 1 to 5 of 8; the arrows show the others\)`)
	}
	p.resize(300, 24)
	p.shows("a larger one", head+row(first.Process.Pid, "1"))

	p.press("C-z")
	p.shows("the shell's screen", `\$ "\$procsem" watch \S+\n\n?\[1\]\+  Stopped [^\n]*\n\$`)
	if got := settings(); got != before {
		t.Errorf("stopped: settings\n%s\nwant\n%s", got, before)
	}
	p.typed("fg")
	p.shows("the screen again", head+row(first.Process.Pid, "1"))
	p.press("q")
	p.shows("the shell's screen", `\$ stty.*\$`)
	if got := settings(); got != before {
		t.Errorf("after q: settings\n%s\nwant\n%s", got, before)
	}

	for end, status := range map[string]int{"C-c": 130, "TERM": 143} {
		p.clear()
		p.typed(watch)
		p.shows("one holder", head+row(first.Process.Pid, "1"))
		if end == "TERM" {
			if err := syscall.Kill(p.child(), syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		} else {
			p.press(end)
		}
		p.shows("the shell's screen after "+end, `\$ .*watch.*\$`)
		p.typed("echo $?")
		p.shows("its status", fmt.Sprintf(`.*\$ echo \$\?\n%d\n\$`, status))
		if got := settings(); got != before {
			t.Errorf("after %s: settings\n%s\nwant\n%s", end, got, before)
		}
	}
	p.clear()
	p.typed(`"$procsem" watch`)
	p.shows("the list", `procsem watch +\d\d:\d\d:\d\d\n\nNAME +KIND +.*\n`+name+` +recoverable +2 +1 +1 +0\n?.*`)
	p.press("q")
}

// Keys are read also where another program that has the terminal, too, has told it not to block. watch ends when it can
// read none any more.
func TestWatchReadsKeys(t *testing.T) {
	t.Parallel()
	testkit.NeedTool(t, "python3")
	name, fifo := newName(t), filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	startHolder(t, name, filepath.Join(t.TempDir(), "held"))
	p := newPane(t, 100, 8)
	p.clear()
	p.typed(fmt.Sprintf(`(cat %s; python3 -c "import os; os.set_blocking(2, False)"; echo >%[1]s) & "$procsem" watch %s`, fifo, name))
	p.shows("the screen", `procsem watch .*\(lines 1 to 5 of \d+; .*`)
	if err := os.WriteFile(fifo, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(fifo); err != nil { // python has done it
		t.Fatal(err)
	}
	for i, key := range []string{"j", "Down", "j"} {
		p.press(key)
		p.shows("lines further down", fmt.Sprintf(`procsem watch .*\(lines %d to .*`, i+2))
	}
	p.press("q")
	p.shows("the shell's screen", `.*watch.*\$`)
	p.clear()
	p.typed(`"$procsem" watch ` + name + ` 0>$(tty)`)
	p.shows("an error", `\$ .*\nprocsem: reading the terminal's keys: .*: bad file descriptor\n\$`)
}

// child returns the only child of the shell.
func (p pane) child() int {
	p.t.Helper()
	shell := strings.TrimSpace(p.tmux("display-message", "-p", "#{pane_pid}"))
	text, err := os.ReadFile(fmt.Sprintf("/proc/%s/task/%[1]s/children", shell))
	if err != nil {
		p.t.Fatal(err)
	}
	return atoi(strings.TrimSpace(string(text)))
}

// Lines that are printed on a terminal are cut to its width, unless --wide is set.
func TestShowCutsLinesToTerminal(t *testing.T) {
	name := newName(t)
	holder, _ := startHolder(t, name, filepath.Join(t.TempDir(), "held"))
	master, slave := openTerminal(t)
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 70}); err != nil {
		t.Fatal(err)
	}
	read := readLines(master)
	for _, tt := range []struct {
		args []string
		cuts bool
	}{{[]string{"show", name}, true}, {[]string{"show", "--wide", name}, false}} {
		cmd := procsemCommand(t, tt.args...)
		cmd.Stdout = slave
		start(t, cmd)
		var row string
		for !strings.HasPrefix(row, fmt.Sprint(holder.Process.Pid, " ")) {
			row = read.read(t)
		}
		if cut := len([]rune(row)) == 70 && strings.HasSuffix(row, "…"); cut != tt.cuts {
			t.Errorf("%q: %d columns: %s", tt.args, len([]rune(row)), row)
		}
		if got := wait(t, cmd); got.status != 0 {
			t.Errorf("%+v", got)
		}
	}
}
