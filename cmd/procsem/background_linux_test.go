package main

import (
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
