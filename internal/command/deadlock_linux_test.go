package command

import (
	"strings"
	"testing"
)

// What a script has taken by lock is held by what runs its commands, too, as long as they have the descriptor; and lock
// waits as run does.
func TestSelfDeadlockWithLock(t *testing.T) {
	needOpenFileLocks(t)
	inPath(t)
	const lock = `exec 9<>"$(procsem path NAME)"; procsem lock --fd 9 NAME || exit 9; `
	const nested = `env ` + helperEnv + `=1 `
	for what, tt := range map[string]struct {
		text   string
		status int
		says   string
	}{
		"run within lock":             {lock + `procsem run NAME true`, 70, `the only permit of "NAME" is held by descriptor 9, for which`},
		"the way out":                 {lock + `procsem run NAME true`, 70, "not waited for, close the descriptor: procsem ... 9>&-"},
		"the way out of idle":         {lock + `procsem wait --idle NAME`, 70, "procsem ... 9>&-"},
		"not waited for":              {lock + `procsem run NAME true 9>&- & procsem unlock --fd 9 NAME; wait $! && exit 7`, 7, ""},
		"run -w within lock":          {lock + `procsem run -w 5 NAME true`, 70, "would wait for itself"},
		"run -w 0 within lock":        {lock + `procsem run -w 0 NAME true`, 75, "no permit"},
		"all within lock":             {`procsem create -n 3 NAME; ` + lock + `procsem run -k all NAME true`, 70, `1 of the 3 permits`},
		"one of two":                  {`procsem create -n 2 NAME; ` + lock + `procsem run NAME true; exit 7`, 7, ""},
		"one of two, two descriptors": {`procsem create -n 2 NAME; ` + lock + `exec 8>&9; procsem run -w 0.05 -k 1 NAME true; exit 7`, 7, ""},
		"idle within lock":            {lock + `procsem wait --idle NAME`, 70, "is held by descriptor 9"},
		"without the descriptor":      {lock + `procsem run -w 0.05 NAME true 9>&-`, 75, "within 50ms"},
		"unlocked":                    {lock + `procsem unlock --fd 9 NAME; procsem run NAME true; exit 7`, 7, ""},
		"a lock within run":           {`procsem run NAME bash -c 'exec 9<>"$(` + nested + `procsem path NAME)"; ` + nested + `procsem lock --fd 9 NAME'`, 70, "is held by process"},
		"a lock -w 0 within run":      {`procsem run NAME bash -c 'exec 9<>"$(` + nested + `procsem path NAME)"; ` + nested + `procsem lock -w 0 --fd 9 NAME'`, 75, "no permit"},
		"a lock through another file": {lock + `exec 8<>"$(procsem path NAME)"; procsem lock --fd 8 NAME`, 70, "is held by descriptor 9"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			name := newName(t)
			got := runCmd(t, script(t, "bash", name, tt.text))
			says := strings.ReplaceAll(tt.says, "NAME", name)
			if got.status != tt.status || says == "" != (got.stderr == "") || says != "" && !isOneLine(got.stderr) || !strings.Contains(got.stderr, says) {
				t.Errorf("got %+v, want status %d and one line with %q", got, tt.status, says)
			}
		})
	}
}
