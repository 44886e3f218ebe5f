package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// Neither Ctrl-C nor the end of the terminal ends a command in the background.
func TestBackgroundIsApartFromTerminal(t *testing.T) {
	for _, how := range []string{"", "-F"} {
		name := newName(t)
		hold := strings.Join(helperCommand(t, "hold", filepath.Join(t.TempDir(), "file")), " ")
		cmd, said, press := onTerminal(t, "bash", `"$procsem" run --bg `+how+` `+name+` `+hold+` || exit; echo returned; exec sleep 100`)
		command := 0
		for range 2 { // in any order
			if line := said.read(t); line != "returned" {
				command = atoi(line)
			}
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
