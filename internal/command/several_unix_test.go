//go:build unix

package command

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Each of the permits stays taken while a killed procsem's command runs, and comes back after that.
func TestAlsoOfKilledRun(t *testing.T) {
	for _, how := range []string{"", "-F", "-o"} {
		t.Run(how, func(t *testing.T) {
			all, names := newNames(t, 3)
			args := nestedArgs(t, names, "run "+how+" --also C --also A B")
			cmd := procsemCommand(t, append(args, helperCommand(t, "hold", filepath.Join(t.TempDir(), "file"))...)...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			start(t, cmd)
			command := atoi(readLines(out).read(t))
			if how != "-F" {
				kill(t, cmd.Process.Pid)
				wait(t, cmd)
			}
			back := func() {
				for _, name := range all {
					eventually(t, name+"'s permit is back", func() bool { return valueOf(t, name) == 1 })
				}
			}
			if how == "-o" {
				back() // the command has none of the locks
			}
			for _, name := range all {
				checkValue(t, name, map[bool]int{true: 1, false: 0}[how == "-o"])
			}
			kill(t, command)
			back()
		})
	}
}

// A signal ends the wait for a further name, and what was taken comes back before procsem dies.
func TestSignalEndsWaitForFurtherName(t *testing.T) {
	all, names := newNames(t, 2)
	if got := run(t, "create", all[1]); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	if got := run(t, "resize", all[1], "0"); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	cmd := procsemCommand(t, nestedArgs(t, names, "run --also B A true")...)
	start(t, cmd)
	eventually(t, "it waits", func() bool { return strings.Contains(run(t, "show", all[1]).stdout, "WAITER") })
	checkValue(t, all[0], 0)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, cmd); got.signal != syscall.SIGTERM {
		t.Errorf("got %+v, want the death of SIGTERM", got)
	}
	checkValue(t, all[0], 1)
}

// A procsem that is killed leaves its permit to its command, and that is an ancestor too.
func TestSelfDeadlockWithKilledRun(t *testing.T) {
	name := newName(t)
	cmd := procsemCommand(t, "run", name, "-c", `echo ready; read line; `+helperEnv+`=1 "$procsem" run "$PROCSEM_NAME" true 2>&1; echo $?`)
	cmd.Env = append(cmd.Env, "procsem="+self(t))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	said := readLines(out)
	said.want(t, "ready")
	kill(t, cmd.Process.Pid)
	if _, err := in.Write([]byte("go on\n")); err != nil {
		t.Fatal(err)
	}
	if got := said.read(t); !strings.Contains(got, "would wait for itself") {
		t.Errorf("got %q", got)
	}
	said.want(t, "70")
	wait(t, cmd)
	eventually(t, "the permit is back", func() bool { return valueOf(t, name) == 1 })
}

// A limit of 0 is an operator's pause, after which there may be permits.
func TestWaitForResizeBesideCallers(t *testing.T) {
	name := newName(t)
	const line = `p() { ` + helperEnv + `=1 "$procsem" "$@"; }; p resize "$PROCSEM_NAME" 0; p run -w 0.05 "$PROCSEM_NAME" true; echo $?; p resize "$PROCSEM_NAME" 1; p run -w 5 "$PROCSEM_NAME" true; echo $?`
	cmd := procsemCommand(t, "run", name, "-c", line)
	cmd.Env = append(cmd.Env, "procsem="+self(t))
	if got, want := runCmd(t, cmd), "75\n70\n"; got.stdout != want {
		t.Errorf("got %+v, want %q", got, want)
	}
}
