// Interop runs the test suites of other packages, which are about locks and semaphores of
// their own, over semaphores of this library: an adapter from testdata takes the place of
// the file that implements theirs. Everything else, their tests too, is compiled
// from where the go command keeps their modules.
//
//	cd interop && go run .           # compare what passes with the list in passes.txt
//	cd interop && go run . -update   # and add to the list
//
// The list only grows: a test in it that fails, or is not run any more, is an error, and
// so is one that passes and is not in it.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A suite is the tests of a package.
type suite struct {
	module, dir string // the package is in that directory of the module
	file        string // of the package, that the adapter replaces
	adapter     string // a file in testdata
	args        []string
}

var suites = []suite{
	{module: "github.com/juju/mutex/v2", file: "mutex_flock.go", adapter: "mutex.go", args: []string{"-args", "-check.v"}},
	{module: "golang.org/x/sync", dir: "semaphore", file: "semaphore.go", adapter: "weighted.go"},
	{module: "github.com/gofrs/flock", file: "flock_unix.go", adapter: "flock.go"},
	{module: "github.com/alexflint/go-filemutex", file: "filemutex_flock.go", adapter: "filemutex.go"},
}

func (s suite) path() string { return strings.TrimSuffix(s.module+"/"+s.dir, "/") }

// cannot has the tests that no adapter lets pass, as they are in the list, and why.
var cannot = map[string]string{
	"github.com/juju/mutex/v2 mutexSuite.TestFilePermissions":               "it looks for the file $TMPDIR/juju-NAME, the lock of that package; a semaphore's file has another name, in another directory",
	"github.com/juju/mutex/v2 mutexSuite.TestFilePermissionsWithSudoEnvars": "it expects that file to be given to the user of sudo; a semaphore belongs to the user who makes it",
	"github.com/juju/mutex/v2 Test":                                         "it passes if all tests of mutexSuite do",
}

// unreliable has the tests that fail now and then over their own package's lock too, and
// why. When no other test fails, their suite is run again.
var unreliable = map[string]string{
	"github.com/juju/mutex/v2 mutexSuite.TestProcessReleasesWhenDead": "its helper connects and exits; if the test hears of the exit before it has accepted the connection, it fails",
	"github.com/juju/mutex/v2 mutexSuite.TestLockBlocks":              "its helper holds the lock for 100 ms; if the test needs 80 of them to notice that, it gets the lock that it must not get",
}

// A test that fails in one run of twenty fails five times in one run of three million.
const attempts = 5

const list = "passes.txt"

func main() {
	update := flag.Bool("update", false, "add what passes to the list")
	verbose := flag.Bool("v", false, "print what the tests print")
	flag.Parse()
	if err := run(*update, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func run(update, verbose bool) (err error) {
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	listed := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
	work, err := os.MkdirTemp("", "semaphore-interop-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	flags, err := overlay(work)
	if err != nil {
		return err
	}
	results := map[string]string{}
	for _, s := range suites {
		of, err := s.run(work, flags, verbose)
		if err != nil {
			return err
		}
		maps.Copy(results, of)
	}
	for _, name := range slices.Sorted(maps.Keys(cannot)) {
		fmt.Printf("cannot pass: %s: %s\n", name, cannot[name])
	}
	wrong, added := compare(listed, results, cannot)
	if update {
		listed = append(listed, added...)
		slices.Sort(listed)
		if err := os.WriteFile(list, []byte(strings.Join(listed, "\n")+"\n"), 0o644); err != nil {
			return err
		}
	} else {
		for _, name := range added {
			wrong = append(wrong, name+" passes, and is not in "+list+": `go run . -update` adds it")
		}
	}
	if len(wrong) > 0 {
		return errors.New("the suites did not do what is expected of them:\n" + strings.Join(wrong, "\n"))
	}
	return nil
}

// compare says what is wrong with the results, "pass", "fail" or "skip", and what may
// be added to those listed.
func compare(listed []string, results, cannot map[string]string) (wrong, added []string) {
	for _, name := range listed {
		switch {
		case cannot[name] != "":
			wrong = append(wrong, name+" is in "+list+", and among those that cannot pass: delete one of the two")
		case results[name] == "":
			wrong = append(wrong, name+" passed before, and is not run any more: if its module has renamed or removed it, delete it from "+list)
		case results[name] != "pass":
			wrong = append(wrong, name+" passed before ("+results[name]+"): mend the library, or the adapter in testdata; it stays in "+list)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		switch result := results[name]; {
		case slices.Contains(listed, name):
		case cannot[name] != "" && result == "pass":
			wrong = append(wrong, name+" passes although it cannot: delete it from cannot in main.go, and add it to "+list)
		case cannot[name] != "":
		case result == "pass":
			added = append(added, name)
		default:
			wrong = append(wrong, name+" does not pass ("+result+"): let it pass, or say in cannot, in main.go, why it cannot")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cannot)) {
		if results[name] == "" {
			wrong = append(wrong, name+" is among those that cannot pass, and is not run: delete it from cannot in main.go")
		}
	}
	return wrong, added
}

// overlay returns flags for go test that take each module from a directory which has its
// files, and an adapter in the place of one, in the overlay only. (The go command replaces no
// file in its cache.)
func overlay(work string) (flags []string, err error) {
	mod := filepath.Join(work, "go.mod")
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(work, name), text, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	replaced := map[string]string{}
	for _, s := range suites {
		out, err := command("go", "list", "-m", "-f", "{{.Dir}}", s.module)
		if err != nil {
			return nil, err
		}
		dir, as := strings.TrimSpace(out), filepath.Join(work, "modules", filepath.FromSlash(s.module))
		err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			to := filepath.Join(as, strings.TrimPrefix(path, dir))
			if d.IsDir() {
				return os.MkdirAll(to, 0o700) // tests run in it
			}
			replaced[to] = path
			return nil
		})
		if err != nil {
			return nil, err
		}
		target := filepath.Join(as, s.dir, s.file)
		if replaced[target] == "" {
			return nil, fmt.Errorf("%s has no file %s any more: let its adapter replace another", s.path(), s.file)
		}
		if replaced[target], err = filepath.Abs(filepath.Join("testdata", s.adapter)); err != nil {
			return nil, err
		}
		if _, err := command("go", "mod", "edit", "-replace", s.module+"="+as, mod); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(work, "overlay.json")
	return []string{"-modfile=" + mod, "-overlay=" + file}, os.WriteFile(file, text, 0o600)
}

func command(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, exit.Stderr)
	}
	return string(out), err
}

// run runs the suite's tests, and prints their number, and what they printed if that is
// of interest.
func (s suite) run(work string, flags []string, verbose bool) (map[string]string, error) {
	for attempt := 1; ; attempt++ {
		output, results, err := s.test(work, flags)
		passed, others := 0, 0
		var again []string
		for name, result := range results {
			switch {
			case result == "pass":
				passed++
			case unreliable[name] != "":
				again = append(again, name)
			case cannot[name] == "":
				others++
			}
		}
		if err == nil && others == 0 && len(again) > 0 && attempt < attempts {
			for _, name := range again {
				fmt.Printf("again, for %s: %s\n", name, unreliable[name])
			}
			continue
		}
		if verbose || err != nil || others > 0 || len(again) > 0 {
			os.Stdout.WriteString(output)
		}
		fmt.Printf("%s: %d of %d tests pass\n", s.path(), passed, len(results))
		return results, err
	}
}

// test runs the suite's tests once, in directories of their own: some leave files behind. It is
// an error if there are no results.
func (s suite) test(work string, flags []string) (output string, results map[string]string, err error) {
	tmp, sems := filepath.Join(work, "tmp"), filepath.Join(work, "semaphores")
	if err := errors.Join(os.MkdirAll(tmp, 0o700), os.MkdirAll(sems, 0o700)); err != nil {
		return "", nil, err
	}
	args := append([]string{"test", "-json", "-count=1", "-timeout=3m"}, flags...)
	cmd := exec.Command("go", append(append(args, s.path()), s.args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "SEMAPHORE_DIR="+sems)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	ended := cmd.Run() // in vain, if one of its tests fails
	output, results, err = s.read(stdout.Bytes())
	if err != nil || len(results) == 0 {
		err = errors.Join(fmt.Errorf("%s: no results: %w\n%s", s.path(), ended, &stderr), err)
	}
	return output + stderr.String(), results, err
}

// gocheck is what gopkg.in/check.v1, whose tests the go command does not know, prints of one.
var gocheck = regexp.MustCompile(`^([A-Z]+): \S+\.go:\d+: (\S+)`)

// read returns from what go test -json printed what the tests printed, and their results.
func (s suite) read(events []byte) (output string, results map[string]string, err error) {
	results = map[string]string{}
	var printed strings.Builder
	for line := range bytes.Lines(events) {
		var event struct{ Action, Test, Output string }
		if err := json.Unmarshal(line, &event); err != nil {
			return printed.String(), nil, fmt.Errorf("%q: %w", line, err)
		}
		switch event.Action {
		case "output":
			printed.WriteString(event.Output)
			if found := gocheck.FindStringSubmatch(event.Output); found != nil {
				results[s.path()+" "+found[2]] = strings.ToLower(found[1])
			}
		case "pass", "fail", "skip":
			if event.Test != "" {
				results[s.path()+" "+event.Test] = event.Action
			}
		}
	}
	return printed.String(), results, nil
}
