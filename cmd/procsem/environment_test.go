//go:build unix || windows

package main

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

// environment, a helper, prints the variables that procsem has set, or should have removed.
func environment([]string) int {
	var ours []string
	for _, entry := range os.Environ() {
		variable, _, _ := strings.Cut(strings.ToUpper(entry), "=")
		if strings.HasPrefix(variable, "PROCSEM_") && !strings.HasPrefix(variable, "PROCSEM_TEST_") {
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
