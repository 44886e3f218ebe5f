//go:build unix || windows

package command

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/procsem/semaphore"
)

func init() { helpers["procsem"] = nested }

// nested, a helper, runs procsem, and ends with its status.
func nested(args []string) int {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), helperEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Run()
	return cmd.ProcessState.ExitCode()
}

// runNested runs a procsem within another one. In both lines A, B and C are names.
func runNested(t *testing.T, names *strings.Replacer, lines ...string) outcome {
	t.Helper()
	return runCmd(t, procsemCommand(t, nestedArgs(t, names, lines...)...))
}

// placeholder is a letter that stands for a name, and none of another name.
var placeholder = regexp.MustCompile(`\b[A-Z]\b`)

func nestedArgs(t *testing.T, names *strings.Replacer, lines ...string) (args []string) {
	t.Helper()
	for i, line := range lines {
		if i > 0 {
			args = append(args, helperCommand(t, "procsem")...)
		}
		for _, word := range strings.Fields(line) {
			args = append(args, placeholder.ReplaceAllStringFunc(word, names.Replace))
		}
	}
	return args
}

// newNames returns names in ascending order, of semaphores that do not exist, and what puts them in the place
// of A, B and so on.
func newNames(t *testing.T, n int) (all []string, replacer *strings.Replacer) {
	t.Helper()
	var pairs []string
	for i := range n {
		// The number of a name comes before the test's, and 9 before 10.
		name := fmt.Sprintf("%c%s", 'a'+i, newName(t))
		name = name[:min(len(name), portableName)]
		t.Cleanup(func() { semaphore.Unlink(name) })
		all = append(all, name)
		pairs = append(pairs, string(rune('A'+i)), name)
	}
	return all, strings.NewReplacer(pairs...)
}

// All permits are held while the command runs, and come back, whatever the order of the names.
func TestAlsoHoldsAll(t *testing.T) {
	for _, line := range []string{"run --also B A", "run --also A B", "run --close --also B --also C=2 A", "run " + inPlace + " --also A=1 --also B=1 C", "run -w 5 --also A --also C B"} {
		t.Run(line, func(t *testing.T) {
			all, names := newNames(t, 3)
			for i, name := range all[:2] {
				if got := runNested(t, names, line, "run -w 0 "+string(rune('A'+i))+" exit"); got.status != statusTempFail || !strings.Contains(got.stderr, "no permit of \""+name) {
					t.Errorf("%s is not held: %+v", name, got)
				}
			}
			for _, name := range all[:2] {
				checkValue(t, name, 1)
			}
		})
	}
}

// Its =N is a limit as -n is. The variables are those of NAME.
func TestAlsoLimit(t *testing.T) {
	all, names := newNames(t, 3)
	args := append(nestedArgs(t, names, "run -k 2 -n 3 --also A=4 --also C=300% B"), helperCommand(t, "environment")...)
	want := fmt.Sprintf("PROCSEM_LIMIT=3 PROCSEM_NAME=%s PROCSEM_SLOT=0,1\n", all[1])
	if got := run(t, args...); got != (outcome{stdout: want}) {
		t.Errorf("got %+v, want %s", got, want)
	}
	checkValue(t, all[0], 4)
	checkValue(t, all[1], 3)
	checkValue(t, all[2], 3*processors())
	s, err := semaphore.Open(all[0], semaphore.WithRecovery(true))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := runNested(t, names, "run --also A=5 B", "list")
	if got.status != statusConfig || !strings.Contains(got.stderr, "procsem resize "+all[0]+" 5") {
		t.Errorf("another limit than it has: %+v, want status 78", got)
	}
	checkValue(t, all[1], 3)
	if err := s.SetLimit(2); err != nil {
		t.Fatal(err)
	}
	got = run(t, append(nestedArgs(t, names, "run --also A=5 B"), helperCommand(t, "exit", "3")...)...)
	if want := fmt.Sprintf("procsem: %s: procsem resize has set its limit to 2, --also %[1]s=5 is not used; procsem resize %[1]s --default ends that\n", all[0]); got != (outcome{status: 3, stderr: want}) {
		t.Errorf("another limit than resize has set: %+v, want %q", got, want)
	}
	// A name with a "=" takes its limit after the last one.
	odd := all[0] + "=x"
	t.Cleanup(func() { semaphore.Unlink(odd) })
	if got := run(t, append([]string{"run", "--also", odd + "=7", all[1]}, helperCommand(t, "exit", "3")...)...); got.status != 3 || got.stderr != "" {
		t.Errorf("%s: %+v", odd, got)
	}
	checkValue(t, odd, 7)
}

// The time of --every is NAME's; when it is too early nothing stays taken.
func TestAlsoEvery(t *testing.T) {
	all, names := newNames(t, 3)
	args := append(nestedArgs(t, names, "run --every 1h -w 0 --also A --also C B"), helperCommand(t, "exit", "3")...)
	for i, want := range []int{3, statusTempFail} {
		if got := run(t, args...); got.status != want {
			t.Errorf("run %d: got %+v, want status %d", i, got, want)
		}
		for _, name := range all {
			checkValue(t, name, 1)
		}
	}
	for line, want := range map[string]int{"run --every 1h -w 0 --also B A": 3, "run --every 1h -w 0 --also A B": statusTempFail} {
		if got := run(t, append(nestedArgs(t, names, line), helperCommand(t, "exit", "3")...)...); got.status != want {
			t.Errorf("%s: got %+v, want status %d", line, got, want)
		}
	}
}

// -w is for all together, and what was taken comes back.
func TestAlsoGivesUp(t *testing.T) {
	for _, line := range []string{"run -w 0 --also C --also B A", "run -w 0.05 --also A --also B C", "run -w 0 -E 75 --also A --also C B"} {
		all, names := newNames(t, 3)
		s, err := semaphore.Open(all[1], semaphore.WithRecovery(true))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Wait(); err != nil {
			t.Fatal(err)
		}
		got := runNested(t, names, line, "list")
		if got.status != statusTempFail || !isOneLine(got.stderr) || !strings.Contains(got.stderr, `no permit of "`+all[1]) {
			t.Errorf("%s: got %+v, want status 75 and a line about %s", line, got, all[1])
		}
		checkValue(t, all[0], 1)
		checkValue(t, all[2], 1)
	}
}

// The permits are taken in the order of the names, whatever that of the arguments: one that waits holds nothing
// that comes after what it waits for. And what it holds comes back when it is ended.
func TestAlsoTakesInOneOrder(t *testing.T) {
	for _, line := range []string{"run --also B --also C A", "run --also A --also B C", "run --also C --also A B"} {
		t.Run(line, func(t *testing.T) {
			all, names := newNames(t, 3)
			s, err := semaphore.Open(all[1], semaphore.WithRecovery(true))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Wait(); err != nil {
				t.Fatal(err)
			}
			cmd := procsemCommand(t, nestedArgs(t, names, line, "list")...)
			start(t, cmd)
			eventually(t, "it waits for the second name", func() bool {
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
			checkValue(t, all[0], 0)
			checkValue(t, all[2], 1)
			kill(t, cmd.Process.Pid)
			wait(t, cmd)
			eventually(t, "the first name's permit is back", func() bool { return valueOf(t, all[0]) == 1 })
		})
	}
}

// Users of the same names, in any order, do not wait for each other for ever.
func TestAlsoDoesNotDeadlock(t *testing.T) {
	const rounds = 15
	all, names := newNames(t, 3)
	lines := []string{"run --also B --also C A", "run --also C --also A B", "run --also A --also B C", "run --also A C", "run --also C B"}
	var users sync.WaitGroup
	for _, line := range lines {
		users.Go(func() {
			for range rounds {
				cmd := procsemCommand(t, append(nestedArgs(t, names, line), helperCommand(t, "exit", "3")...)...)
				if got := runCmd(t, cmd); got.status != 3 {
					t.Errorf("%s: %+v", line, got)
					return
				}
			}
		})
	}
	users.Wait()
	for _, name := range all {
		checkValue(t, name, 1)
	}
}

// A wait for permits that are held by what waits for it is an error, at once, and no other wait is one.
func TestSelfDeadlockIsSaid(t *testing.T) {
	for _, tt := range []struct {
		limit  int // of A
		lines  []string
		status int
		says   string
	}{
		{1, []string{"run A", "run A exit"}, 70, "the only permit of \"A\" is held by process"},
		{1, []string{"run /A", "run /A exit"}, 70, "raise the limit: procsem resize A 2"},
		{1, []string{"run A", "run -w 5 A exit"}, 70, "would wait for itself"},
		{1, []string{"run A", "run -w 5 -E 9 A exit"}, 70, "would wait for itself"},
		{1, []string{"run A", "run -w 0 A exit"}, 75, "no permit"},
		{1, []string{"run " + inPlace + " A", "run A exit"}, 70, "would wait for itself"},
		{1, []string{"run --close A", "run " + inPlace + " A exit"}, 70, "would wait for itself"},
		{1, []string{"run A", "run B", "run A exit"}, 70, "would wait for itself"},
		{1, []string{"run A", "run B", "run C exit"}, 127, "not found"},
		{1, []string{"run A", "run B", "run B exit"}, 70, "of \"B\""},
		{1, []string{"run --also A B", "run A exit"}, 70, "of \"A\""},
		{1, []string{"run --also B A", "run B exit"}, 70, "of \"B\""},
		{1, []string{"run A", "run --also A B exit"}, 70, "of \"A\""},
		{1, []string{"run A", "run --also B A exit"}, 70, "of \"A\""},
		{1, []string{"run A", "wait --idle A"}, 70, "is held by process"},
		{1, []string{"run A", "wait --idle -w 0 A"}, 75, "is in use"},
		{2, []string{"run A", "run A exit"}, 127, "not found"},
		{2, []string{"run A", "run -k 2 A exit"}, 70, "1 of the 2 permits of \"A\" are held by process"},
		{2, []string{"run A", "run -k all A exit"}, 70, "-k all: it would wait for itself for ever; leave out the inner procsem"},
		{2, []string{"run -k 2 A", "run A exit"}, 70, "2 of the 2 permits"},
		{2, []string{"run -k all A", "run A exit"}, 70, "2 of the 2 permits"},
		{2, []string{"run A", "run A", "run A exit"}, 70, " and process "},
		{3, []string{"run -k 2 A", "run -k 2 A exit"}, 70, "2 of the 3 permits"},
		{4, []string{"run -k 2 A", "run -k 2 A exit"}, 127, "not found"},
		{1, []string{"run A", "run -k 2 A exit"}, 64, "-k 2 is more than the limit"},
	} {
		t.Run(fmt.Sprint(tt.limit, ": ", strings.Join(tt.lines, ", ")), func(t *testing.T) {
			t.Parallel()
			all, names := newNames(t, 3)
			if got := run(t, "create", "-n", fmt.Sprint(tt.limit), all[0]); got.status != 0 {
				t.Fatalf("%+v", got)
			}
			lines := tt.lines
			if tt.status == 127 { // the command of that name is not there
				lines = append([]string{}, lines...)
				last := len(lines) - 1
				lines[last] = strings.Replace(lines[last], " exit", " procsem-test-none", 1)
			}
			got := runNested(t, names, lines...)
			if got.status != tt.status || !isOneLine(got.stderr) || !strings.Contains(got.stderr, names.Replace(tt.says)) {
				t.Errorf("got %+v, want status %d and one line with %q", got, tt.status, tt.says)
			}
			checkValue(t, all[0], tt.limit)
		})
	}
}

// What others hold may come back: the wait is one.
func TestWaitForOthersBesideCallers(t *testing.T) {
	all, names := newNames(t, 1)
	s, err := semaphore.Open(all[0], semaphore.WithRecovery(true), semaphore.WithValue(3))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]int{"run -w 0.05 -k 2 A exit": 75, "run -w 0.05 -k 3 A exit": 70} {
		if got := runNested(t, names, "run A", line); got.status != want || !isOneLine(got.stderr) {
			t.Errorf("%s: got %+v, want status %d", line, got, want)
		}
	}
}

func init() {
	// print, a helper, prints a variable, and then runs on if it is to stay.
	helpers["print"] = func(args []string) int {
		fmt.Println(os.Getenv(args[0]))
		if len(args) > 1 {
			return stay(nil)
		}
		return 0
	}
}

// What PROCSEM_HELD says counts only if it is so now, of this semaphore: a daemon has the variable that a command left
// behind.
func TestHeldThatIsOver(t *testing.T) {
	const name = "a"
	here, there := tempDir(t), tempDir(t)
	in := func(dir string, args ...string) *exec.Cmd {
		cmd := procsemCommand(t, args...)
		cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
		return cmd
	}
	over := strings.TrimSpace(runCmd(t, in(here, append([]string{"run", name}, helperCommand(t, "print", heldVariable)...)...)).stdout)
	// Others hold the only permit, here and there.
	var held []string
	for _, dir := range []string{here, there} {
		cmd := in(dir, append([]string{"run", name}, helperCommand(t, "print", heldVariable, "stay")...)...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		start(t, cmd)
		held = append(held, readLines(out).read(t))
	}
	owner := strings.TrimPrefix(held[0], name+"=1@")
	pid, opened, _ := strings.Cut(owner, ".")
	for what, tt := range map[string]struct {
		held string
		want int
	}{
		"so":                {held[0], 70},
		"so, and more":      {over + "/" + held[1] + "/" + held[0] + "/b=2@1.1", 70},
		"over":              {over, 75},
		"of another dir":    {held[1], 75},
		"none":              {"", 75},
		"of another name":   {"b=1@" + owner, 75},
		"another process's": {name + "=1@1." + opened, 75},
		"another handle's":  {name + "=1@" + pid + ".1", 75},
		"no form":           {"///a=@./a@=./=@./" + name + "=1@" + pid + "/" + name + "@" + owner + "/" + name + "=x@" + owner, 75},
	} {
		cmd := in(here, "run", "-w", "0.05", name, "-c", "exit 9")
		cmd.Env = append(cmd.Env, heldVariable+"="+tt.held)
		if got := runCmd(t, cmd); got.status != tt.want || !isOneLine(got.stderr) {
			t.Errorf("%s: %q: got %+v, want status %d", what, tt.held, got, tt.want)
		}
	}
}

// The command learns what it and those that run it hold, outermost first, and nothing of bare counts.
func TestCommandLearnsWhatIsHeld(t *testing.T) {
	all, names := newNames(t, 3)
	bare := newSemaphore(t, 1)
	args := nestedArgs(t, names, "run -n 2 -k 2 C", "run --posix "+bare, "run --also B A")
	got := run(t, append(args, helperCommand(t, "print", heldVariable)...)...)
	var entries []string
	for _, entry := range strings.Split(strings.TrimSpace(got.stdout), "/") {
		entry, _, _ = strings.Cut(entry, "@")
		entries = append(entries, entry)
	}
	if want := []string{all[2] + "=2", all[0] + "=1", all[1] + "=1"}; !slices.Equal(entries, want) {
		t.Errorf("got %+v, want %q", got, want)
	}
}
