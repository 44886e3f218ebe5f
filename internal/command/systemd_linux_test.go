package command

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/procsem/semaphore/internal/testkit"
)

const systemdFiles = "../../docs/systemd"

func readSystemd(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(systemdFiles, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// The unit is one that systemd takes without a word, and its command makes what the example lists.
func TestSystemdUnit(t *testing.T) {
	unit := readSystemd(t, "procsem.service")
	bin := inPath(t)

	// Its command is run as it is written, but for where things are.
	dir, conf := tempDir(t), filepath.Join(systemdFiles, "procsem.conf")
	commands := regexp.MustCompile(`(?m)^Exec(?:Start|Reload)=(/usr/local/bin/procsem .*)$`).FindAllStringSubmatch(unit, -1)
	if len(commands) != 2 || commands[0][1] != commands[1][1] {
		t.Fatalf("the unit's commands are %q, want one for start and reload", commands)
	}
	words := strings.Fields(strings.ReplaceAll(commands[0][1], "/etc/procsem.conf", conf))
	lines := readSystemd(t, "procsem.conf")
	if os.Geteuid() != 0 { // who cannot choose an owner
		lines = regexp.MustCompile(`(?m)\s+root:video$`).ReplaceAllString(lines, "")
		conf = filepath.Join(dir, "conf")
		if err := os.WriteFile(conf, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		words[len(words)-1] = conf
	}
	for range 2 { // start, and reload
		cmd := procsemCommand(t, words[1:]...)
		cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
		if got := runCmd(t, cmd); got != (outcome{}) {
			t.Fatalf("%q: %+v", words, got)
		}
	}
	for name, mode := range map[string]os.FileMode{"build": 0o666, "gpu": 0o660, "nightly": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, "rec."+name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want mode %v", name, info, err, mode)
		}
	}

	testkit.NeedTool(t, "systemd-analyze")
	// It is verified with a program that is there.
	copied := filepath.Join(dir, "procsem.service")
	if err := os.WriteFile(copied, []byte(strings.ReplaceAll(unit, "/usr/local/bin/procsem", filepath.Join(bin, "procsem"))), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func(path string) (string, error) {
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput()
		return string(bytes.TrimSpace(out)), err
	}
	if out, err := verify(copied); err != nil || out != "" {
		t.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
	// It finds mistakes.
	if err := os.WriteFile(copied, []byte(strings.ReplaceAll(unit, "Type=oneshot", "Type=oneshoot")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := verify(copied); err == nil && out == "" {
		t.Error("systemd-analyze verify finds no mistake in a unit that has one")
	}
}

// The line for tmpfiles.d makes a directory like /tmp, in which procsem works.
func TestSystemdTmpfiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("missing: root")
	}
	testkit.NeedTool(t, "systemd-tmpfiles")
	root := tempDir(t)
	conf, err := filepath.Abs(filepath.Join(systemdFiles, "procsem.tmpfiles.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-tmpfiles", "--create", "--root="+root, conf).CombinedOutput(); err != nil {
		t.Fatalf("systemd-tmpfiles: %v: %s", err, out)
	}
	dir := filepath.Join(root, "run/procsem")
	if info, err := os.Stat(dir); err != nil || info.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Fatalf("%v, %v, want a sticky directory that all may write", info, err)
	}
	cmd := procsemCommand(t, "run", "-w", "0", "x", "true")
	cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
	if got := runCmd(t, cmd); got != (outcome{}) {
		t.Error(got)
	}
}

// The documentation shows the example as it is, and copies files that exist.
func TestSystemdDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	example := strings.SplitN(readSystemd(t, "procsem.conf"), "OWNER\n", 2)[1]
	if !strings.Contains(string(text), "\n"+example+"```\n") {
		t.Errorf("docs/command.md does not have the lines of the example:\n%s", example)
	}
	copies := regexp.MustCompile(`(?m)^cp docs/systemd/(\S+) `).FindAllStringSubmatch(string(text), -1)
	entries, err := os.ReadDir(systemdFiles)
	if err != nil || len(copies) != len(entries) {
		t.Errorf("docs/command.md copies %d files of docs/systemd, which has %d, %v", len(copies), len(entries), err)
	}
	for _, c := range copies {
		readSystemd(t, c[1])
	}
}
