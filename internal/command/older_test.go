//go:build unix || windows

package command

import (
	"fmt"
	"strings"
	"testing"

	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testkit"
)

// A file of an older version: what looks says what it is, what uses it replaces it, unless it is in
// use.
func TestFileOfAnOlderVersion(t *testing.T) {
	if engine := observer(listed["rec."]); engine == nil {
		t.Skip("not in this build: recoverable semaphores")
	}
	const inUse, idle = "another version of this package has it open", "Nobody has it open; it will be replaced"
	name, ends := "x", helperCommand(t, "exit", "0")
	for version := 1; version < permits.Version; version++ {
		for what, use := range map[string][]string{
			"run":              append([]string{"run", name, "--"}, ends...),
			"run with a limit": append([]string{"run", "-n", "2", name, "--"}, ends...),
			"resize":           {"resize", name, "2"},
		} {
			t.Run(fmt.Sprint("version ", version, ", ", what), func(t *testing.T) {
				t.Setenv("SEMAPHORE_DIR", tempDir(t))
				old := testkit.MakeOlder(t, name, version, 3, 0o600)
				says := func(want string) {
					t.Helper()
					for _, look := range []string{"show", "value"} {
						got := run(t, look, name)
						if got.status != 65 || !isOneLine(got.stderr) || !strings.Contains(got.stderr, want) || !strings.Contains(got.stderr, fmt.Sprint("version ", version)) {
							t.Errorf("%s: %+v, want %q", look, got, want)
						}
					}
					if got := run(t, "list"); got.status != 0 || !strings.Contains(got.stdout, want) {
						t.Errorf("list: %+v, want %q", got, want)
					}
				}
				release := old.Hold(t, false)
				says(inUse)
				if got := run(t, use...); got.status != 65 || !isOneLine(got.stderr) || !strings.Contains(got.stderr, inUse) {
					t.Errorf("%v: %+v, want %q", use, got, inUse)
				}
				release()
				says(idle)
				old.Unchanged(t, "looked at")
				if got := run(t, use...); got.status != 0 || got.stderr != "" {
					t.Errorf("%v: %+v", use, got)
				}
				if v := testkit.VersionOf(t, name); v != permits.Version {
					t.Errorf("version %d", v)
				}
				if got := run(t, "show", name); got.status != 0 {
					t.Errorf("show: %+v", got)
				}
				if got := run(t, "unlink", name); got.status != 0 {
					t.Errorf("unlink: %+v", got)
				}
			})
		}
	}
}
