//go:build unix || windows

package command

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func init() { helpers["environment"] = environment }

// environment, a helper, prints the variables that procsem has set, or should have removed, but for PROCSEM_HELD.
func environment([]string) int {
	var ours []string
	for _, entry := range os.Environ() {
		variable, _, _ := strings.Cut(strings.ToUpper(entry), "=")
		if strings.HasPrefix(variable, "PROCSEM_") && !strings.HasPrefix(variable, "PROCSEM_TEST_") && variable != heldVariable {
			ours = append(ours, entry)
		}
	}
	slices.Sort(ours)
	fmt.Println(strings.Join(ours, " "))
	return 0
}

// inherited are the variables that an outer procsem would have set.
var inherited = []string{"PROCSEM_SLOT=7", "PROCSEM_LIMIT=8", "PROCSEM_NAME=outer"}

// A command learns which permit it runs with, and takes nothing else for it.
func TestCommandLearnsItsPermit(t *testing.T) {
	for _, outer := range [][]string{nil, inherited, {"procsem_slot=7"}} {
		for _, how := range hows("--close", "--posix") {
			t.Run(fmt.Sprint(outer, how), func(t *testing.T) {
				name, s := newRecoverable(t, 4)
				permit, err := s.TryAcquire() // number 0
				if err != nil {
					t.Fatal(err)
				}
				defer permit.Release()
				if err := s.SetLimit(6); err != nil {
					t.Fatal(err)
				}
				want := fmt.Sprintf("PROCSEM_LIMIT=6 PROCSEM_NAME=%s PROCSEM_SLOT=1", name)
				if how == "--posix" {
					name = newSemaphore(t, 4)
					want = "PROCSEM_NAME=" + name
				}
				if runtime.GOOS != "windows" && len(outer) == 1 {
					want += " " + outer[0] // another variable
				}
				cmd := procsemCommand(t, append([]string{"run", how, "/" + name, "--"}, helperCommand(t, "environment")...)...)
				cmd.Env = append(cmd.Env, outer...)
				got := runCmd(t, cmd)
				if diff := cmp.Diff(outcome{stdout: want + "\n"}, got, cmp.AllowUnexported(outcome{})); diff != "" {
					t.Errorf("outcome (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// A command holds as many permits as -k says, learns which, and they come back together.
func TestCommandHoldsSeveral(t *testing.T) {
	for _, how := range hows("--close") {
		t.Run(how, func(t *testing.T) {
			name, s := newRecoverable(t, 4)
			permit, err := s.TryAcquire() // number 0
			if err != nil {
				t.Fatal(err)
			}
			learns := func(k, slots string) {
				t.Helper()
				got := runCmd(t, procsemCommand(t, append([]string{"run", how, "-k", k, name, "--"}, helperCommand(t, "environment")...)...))
				want := outcome{stdout: fmt.Sprintf("PROCSEM_LIMIT=4 PROCSEM_NAME=%s PROCSEM_SLOT=%s\n", name, slots)}
				if diff := cmp.Diff(want, got, cmp.AllowUnexported(outcome{})); diff != "" {
					t.Errorf("-k %s: outcome (-want +got):\n%s", k, diff)
				}
			}
			learns("1", "1")
			learns("2", "1,2")
			for k, says := range map[string]string{"4": "no 4 permits", "all": "not all permits"} {
				got := run(t, "run", how, "-k", k, "-w", "0", name, "-c", "exit 9")
				if want := fmt.Sprintf("procsem: %s of %q are free; held by %d (", says, name, os.Getpid()); got.status != 75 || !isOneLine(got.stderr) || !strings.HasPrefix(got.stderr, want) {
					t.Errorf("-k %s: got %+v, want status 75 and %q", k, got, want)
				}
				got = run(t, "run", how, "-k", k, "-w", "0.01", name, "-c", "exit 9")
				if want := fmt.Sprintf("procsem: %s of %q within 10ms; held by %d (", says, name, os.Getpid()); got.status != 75 || !isOneLine(got.stderr) || !strings.HasPrefix(got.stderr, want) {
					t.Errorf("-k %s: got %+v, want status 75 and %q", k, got, want)
				}
				checkValue(t, name, 3)
			}
			if err := permit.Release(); err != nil {
				t.Fatal(err)
			}
			learns("4", "0,1,2,3")
			learns("all", "0,1,2,3")
			checkValue(t, name, 4)
		})
	}
}

// More permits than there are is an error, and makes no semaphore.
func TestRunOfMorePermitsThanThereAre(t *testing.T) {
	name, _ := newRecoverable(t, 4)
	for _, wait := range [][]string{nil, {"-w", "0"}} {
		got := run(t, append(append([]string{"run", "-k", "5"}, wait...), name, "-c", "exit 9")...)
		if want := fmt.Sprintf("-k 5 is more than the limit of %q, 4", name); got.status != 64 || !isOneLine(got.stderr) || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: got %+v, want status 64 and %q", wait, got, want)
		}
	}
	fresh := newName(t)
	got := run(t, "run", "-k", "2", fresh, "-c", "exit 9")
	if got.status != 64 || !strings.Contains(got.stderr, "a new one has a limit of 1") {
		t.Errorf("of a new one: %+v, want status 64", got)
	}
	if got := run(t, "value", fresh); got.status != 66 {
		t.Errorf("it was made: %+v", got)
	}
}

func TestCommaSeparated(t *testing.T) {
	for want, numbers := range map[string][]int{"0": {0}, "0,3": {0, 3}, "9,10,65534": {9, 10, 65534}} {
		if got := commaSeparated(numbers); got != want {
			t.Errorf("%v: %q, want %q", numbers, got, want)
		}
	}
}

// echoSlot is a line for the shell.
var echoSlot = map[bool]string{true: "echo [%PROCSEM_SLOT%]", false: "echo [$PROCSEM_SLOT]"}[runtime.GOOS == "windows"]

func TestShellLineLearnsItsPermit(t *testing.T) {
	for _, how := range hows("--close") {
		cmd := procsemCommand(t, "run", how, newName(t), "-c", echoSlot)
		cmd.Env = append(cmd.Env, inherited...)
		if got := runCmd(t, cmd); got != (outcome{stdout: "[0]\n"}) {
			t.Errorf("%s: got %+v, want the number 0", how, got)
		}
	}
}
