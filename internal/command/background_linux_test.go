package command

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Neither Ctrl-C nor the end of the terminal ends a command in the background, and it does not read what is typed.
func TestBackgroundIsApartFromTerminal(t *testing.T) {
	for _, how := range []string{"", "-F"} {
		name := newName(t)
		hold := strings.Join(helperCommand(t, "hold", filepath.Join(t.TempDir(), "file")), " ")
		line := `readlink /proc/self/fd/0; exec ` + hold
		cmd, said, press := onTerminal(t, "bash", `"$procsem" run --bg `+how+` `+name+` -c '`+line+`' || exit; echo returned; exec sleep 100`)
		command, input := 0, ""
		for range 3 { // in any order
			switch line := said.read(t); {
			case line == "returned":
			case line[0] == '/':
				input = line
			default:
				command = atoi(line)
			}
		}
		if input != "/dev/null" {
			t.Errorf("its input is %s, want /dev/null", input)
		}
		t.Cleanup(func() { killIfThere(command) })
		press(ctrlC) // ends the shell, and with it the session
		wait(t, cmd)
		// What would have ended the command, too, has been sent to it by now.
		checkValue(t, name, 0)
		if !alive(command) {
			t.Error("the command has ended")
		}
		kill(t, command)
		eventually(t, "the permit is back", func() bool { return valueOf(t, name) == 1 })
	}
}

// The procsem in the background is the same program, also if that has been removed, or replaced by another one, meanwhile.
func TestBackgroundOfReplacedProgram(t *testing.T) {
	program, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, meanwhile := range []string{`rm "$1"`, `rm "$1"; cp /bin/false "$1"`} {
		name, path := newName(t), filepath.Join(t.TempDir(), "procsem")
		if err := os.WriteFile(path, program, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := procsemCommand(t)
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `exec 3<"$1"; ` + meanwhile + `; exec /proc/self/fd/3 run --bg "$2" -c "echo started"`, "sh", path, name}
		if got := runCmd(t, cmd); got != (outcome{stdout: "started\n"}) {
			t.Errorf("%s: got %+v", meanwhile, got)
		}
		eventually(t, "the permit is back", func() bool { return valueOf(t, name) == 1 })
	}
}

// With too few descriptors the error says how to get more, whichever call is the first that has none: their limit is below the
// number that is needed, or all below it are in use. How many the Go runtime has open depends on the machine's cgroups.
func TestFewDescriptors(t *testing.T) {
	for _, how := range []string{"run", "run -F", "run --bg"} {
		failed := false
		for limit := 9; ; limit++ {
			cmd := procsemCommand(t)
			cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$1" %s "$2" true`, limit, how), "sh", self(t), newName(t)}
			got := runCmd(t, cmd)
			if got == (outcome{}) {
				break
			}
			failed = true
			if got.status != statusOSErr || !isOneLine(got.stderr) || !strings.Contains(got.stderr, "(ulimit -n) is too low") {
				t.Errorf("%s, ulimit -n %d: got %+v, want status 71 and a line with the remedy", how, limit, got)
			}
			if limit == 32 {
				t.Fatalf("%s fails with %d descriptors", how, limit)
			}
		}
		if !failed {
			t.Errorf("%s: 9 descriptors were enough", how)
		}
	}
}
