//go:build unix

package command

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/testkit"
)

// What is printed is what a parser of the format reads.
func TestPrometheus(t *testing.T) {
	dir := tempDir(t)
	t.Setenv("SEMAPHORE_DIR", dir)
	odd := []string{"plain", "with space", `quote"d`, "é", `{a="b"}`, "# HELP x y", "line\nbreak", `back\slash`, `\n`, "not\xffUTF8", "not\xfeUTF8", "\x1b[2J", "\x07[2J", "carriage\rreturn", "\u202eright", "\u0085"}
	var all []string
	for _, name := range odd {
		switch got := run(t, "create", "-n", "3", "--", name); {
		case strings.Contains(got.stderr, "byte sequence"): // this system has no such names
		case got.status != 0:
			t.Fatal(got)
		default:
			all = append(all, name)
		}
	}
	cmd := procsemCommand(t, append([]string{"run", "-k", "3", "plain", "--"}, helperCommand(t, "stay")...)...)
	start(t, cmd)
	eventually(t, "one holds", func() bool { return run(t, "value", "plain").stdout == "0\n" })
	start(t, procsemCommand(t, append([]string{"run", "plain", "--"}, helperCommand(t, "stay")...)...))
	eventually(t, "one waits", func() bool {
		o, err := observe("plain")
		_, waiting := o.count()
		return err == nil && waiting == 1
	})
	if err := os.WriteFile(filepath.Join(dir, names.FileName(names.Recoverable, "broken")), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}

	got := run(t, "list", "--prometheus")
	if got.status != 0 || got.stderr != "" {
		t.Fatal(got)
	}
	samples := parsePrometheus(t, got.stdout)
	want := map[string]float64{`procsem_readable[broken recoverable ]`: 0}
	for _, name := range all {
		shown, form := strings.ToValidUTF8(name, "\uFFFD"), ""
		for _, obeyed := range []string{"\x1b", "\x07", "\r", "\u202e", "\u0085"} {
			shown = strings.ReplaceAll(shown, obeyed, "\uFFFD")
		}
		if shown != name {
			form = base64.StdEncoding.EncodeToString([]byte(name))
		}
		of := func(metric string, value float64) {
			want[fmt.Sprintf("%s[%s recoverable %s]", metric, shown, form)] = value
		}
		of("procsem_limit_permits", 3)
		of("procsem_free_permits", 3)
		of("procsem_holders", 0)
		of("procsem_waiters", 0)
		of("procsem_readable", 1)
		if name == "plain" {
			of("procsem_free_permits", 0)
			of("procsem_holders", 1)
			of("procsem_waiters", 1)
		}
	}
	const age = "procsem_oldest_hold_seconds[plain recoverable ]"
	if held := samples[age]; held <= 0 || held > 1e6 {
		t.Errorf("held for %v s", held)
	}
	delete(samples, age)
	for name := range samples { // of others, in /dev/shm
		if strings.Contains(name, " posix ") {
			delete(samples, name)
		}
	}
	if fmt.Sprint(samples) != fmt.Sprint(want) {
		t.Errorf("samples\n%v\nwant\n%v\nof\n%s", samples, want, got.stdout)
	}
}

// parsePrometheus returns the samples in a text, by metric and labels, as the parser of Prometheus' client for
// Python reads them.
func parsePrometheus(t *testing.T, text string) map[string]float64 {
	t.Helper()
	const script = `
import json, sys
from prometheus_client.parser import text_string_to_metric_families
out = []
for family in text_string_to_metric_families(sys.stdin.buffer.read().decode("utf-8")):
    assert family.type == "gauge" and family.documentation, family
    for s in family.samples:
        assert s.name == family.name, s
        assert set(s.labels) - {"name_base64"} == {"name", "kind"}, s
        out.append(["%s[%s %s %s]" % (s.name, s.labels["name"], s.labels["kind"], s.labels.get("name_base64", "")), s.value])
json.dump(out, sys.stdout)
`
	python := "/usr/bin/python3" // of the system, which has its packages
	if _, err := os.Stat(python); err != nil {
		testkit.Missing(t, "python3")
	}
	if exec.Command(python, "-c", "import prometheus_client").Run() != nil {
		testkit.Missing(t, "python3-prometheus-client")
	}
	cmd := exec.Command(python, "-c", script)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the parser: %v\n%s", err, text)
	}
	var list [][2]any
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	samples := make(map[string]float64)
	for _, s := range list {
		name := s[0].(string)
		if _, twice := samples[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		samples[name] = s[1].(float64)
	}
	return samples
}
