package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/testkit"
)

// The recipes of docs/command.md, and the tables of docs/coming-from.md, are run as they are written there. Commands that a machine may
// not have, or that a test must not run, are stand-ins.

// A place has a directory to run lines of a shell in, with the semaphores of its own, and with procsem and
// stand-ins in the PATH.
type place struct {
	t         *testing.T
	dir, bin  string
	extra     []string // of the environment
	witnesses string   // directory of the helper witness
}

func newPlace(t *testing.T) *place {
	t.Helper()
	root := tempDir(t)
	p := &place{t: t, dir: filepath.Join(root, "work"), bin: filepath.Join(root, "bin"), witnesses: filepath.Join(root, "witnesses")}
	for _, dir := range []string{p.dir, p.bin, p.witnesses, filepath.Join(root, "semaphores"), filepath.Join(root, "home")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SEMAPHORE_DIR", filepath.Join(root, "semaphores")) // also for this process, which looks at them
	t.Setenv("HOME", filepath.Join(root, "home"))
	t.Setenv("TMPDIR", root)
	t.Setenv("TS_SOCKET", filepath.Join(root, "tsp"))
	t.Setenv("MAKEFLAGS", "")
	t.Setenv("LOG", filepath.Join(root, "log"))
	t.Setenv("PATH", p.bin+":"+os.Getenv("PATH"))
	// The test binary is procsem only once: the commands that it runs have to be told again.
	p.standIn("procsem", fmt.Sprintf("%s=1 exec '%s' \"$@\"", helperEnv, self(t)))
	return p
}

// standIn makes a command, in the PATH or, as ./name, in the directory.
func (p *place) standIn(name, script string) {
	p.t.Helper()
	path := filepath.Join(p.bin, name)
	if local, ok := strings.CutPrefix(name, "./"); ok {
		path = filepath.Join(p.dir, local)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

// witness returns a line by which a stand-in finds out how many are inside at a time, up to n of total.
func (p *place) witness(n, total int) string {
	return fmt.Sprintf("'%s' %switness '%s' %d %d", self(p.t), helperArg, p.witnesses, n, total)
}

// waits is a stand-in that says when it begins and ends, and ends when there is a file of that name.
func waits(name, file string) string {
	return fmt.Sprintf("echo %s begins >>\"$LOG\"\nuntil [ -e %s ]; do sleep 0.02; done\necho %[1]s ends >>\"$LOG\"", name, file)
}

// A job is a line that runs.
type job struct {
	*exec.Cmd
	stdout, stderr bytes.Buffer
}

// begin starts a line in the directory, or in one below it.
func (p *place) begin(line, in string, env ...string) *job {
	p.t.Helper()
	j := &job{Cmd: exec.Command("/bin/sh", "-c", line)}
	j.Dir = filepath.Join(p.dir, in)
	j.Env = append(slices.Concat(os.Environ(), p.extra, env), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	j.Stdout, j.Stderr = &j.stdout, &j.stderr
	start(p.t, j.Cmd)
	return j
}

func (j *job) end(t *testing.T) outcome {
	t.Helper()
	o := wait(t, j.Cmd)
	o.stdout, o.stderr = j.stdout.String(), j.stderr.String()
	return o
}

// run runs a line to its end.
func (p *place) run(line string) outcome {
	p.t.Helper()
	return p.begin(line, "").end(p.t)
}

// log returns what commands have written down so far.
func (p *place) log() string {
	p.t.Helper()
	text, err := os.ReadFile(os.Getenv("LOG"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	return string(text)
}

// note writes into the log, as commands do.
func (p *place) note(line string) {
	p.t.Helper()
	f, err := os.OpenFile(os.Getenv("LOG"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.WriteString(f, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

// touch makes a file for which commands wait.
func (p *place) touch(name string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), nil, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// awaitWaiters waits until so many wait for permits.
func awaitWaiters(t *testing.T, name string, n int) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " wait for ", name), func() bool {
		o, err := observe(name)
		_, waiting := o.count()
		return err == nil && waiting == n
	})
}

// together runs a line several times at once, and fails the test unless all succeed. It returns the highest of the
// numbers that witnesses have printed.
func (p *place) together(line string, dirs []string, env func(i int) []string) (most int) {
	p.t.Helper()
	var jobs []*job
	for i, dir := range dirs {
		var e []string
		if env != nil {
			e = env(i)
		}
		jobs = append(jobs, p.begin(line, dir, e...))
	}
	for _, j := range jobs {
		got := j.end(p.t)
		if got.status != 0 || got.stderr != "" {
			p.t.Errorf("%s: %+v", line, got)
		}
		for number := range strings.Lines(got.stdout) {
			if n := strings.TrimSpace(number); strings.Trim(n, "0123456789") == "" && n != "" {
				most = max(most, atoi(n))
			}
		}
	}
	return most
}

// A recipe checks what docs/command.md says of the lines of one.
type recipe func(p *place, block string)

var recipes = map[string]recipe{
	"A cron job that does not overlap itself": cronRecipe,
	"xargs -P in several terminals":           xargsRecipe,
	"make -j in several terminals":            makeRecipe,
	"CI runners of one host":                  ciRecipe,
	"A GPU for each program":                  gpuRecipe,
	"A migration by one only":                 migrationRecipe,
	"A database for each test run":            databaseRecipe,
	"Jobs of different weight":                weightRecipe,
}

// chapter returns the parts of a chapter of a file in docs, by their headings.
func chapter(t *testing.T, file, title string) map[string]string {
	t.Helper()
	content, err := os.ReadFile("../../docs/" + file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(content), "\n## "+title+"\n")
	if !found {
		t.Fatalf("docs/%s has no chapter %q", file, title)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	parts := make(map[string]string)
	for _, part := range strings.Split(rest, "\n### ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		parts[title] = text
	}
	return parts
}

func TestRecipes(t *testing.T) {
	parts := chapter(t, "command.md", "Recipes")
	for title := range recipes {
		if parts[title] == "" {
			t.Errorf("docs/command.md has no recipe %q", title)
		}
	}
	blocks := regexp.MustCompile("(?s)```\\w+\n(.*?)```")
	for title, text := range parts {
		t.Run(title, func(t *testing.T) {
			found := blocks.FindAllStringSubmatch(text, -1)
			if len(found) != 1 || recipes[title] == nil {
				t.Fatalf("%d blocks of code, want one, and a test for it: %v", len(found), recipes[title] != nil)
			}
			recipes[title](newPlace(t), found[0][1])
		})
	}
}

func cronRecipe(p *place, block string) {
	t := p.t
	lines := strings.Split(strings.TrimSpace(block), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "PATH=") {
		t.Fatalf("%q, want PATH and two jobs", lines)
	}
	p.extra = []string{"PATH=" + p.bin + ":" + strings.TrimPrefix(lines[0], "PATH=")}
	job := regexp.MustCompile(`^(?:@\w+|\S+ \S+ \S+ \S+ \S+) (.*)$`)
	mirror, scrub := job.FindStringSubmatch(lines[1])[1], job.FindStringSubmatch(lines[2])[1]
	gaveUp := func(got outcome) {
		t.Helper()
		if got != (outcome{}) {
			t.Errorf("%+v, want status 0 and nothing to mail", got)
		}
	}

	p.standIn("mirror-site", waits("mirror", "go"))
	first := p.begin(mirror, "")
	eventually(t, "it runs", func() bool { return p.log() == "mirror begins\n" })
	for range 3 {
		gaveUp(p.run(mirror))
	}
	if got := p.log(); got != "mirror begins\n" {
		t.Errorf("beside the first one: %q", got)
	}
	p.touch("go")
	for _, got := range []outcome{first.end(t), p.run(mirror)} {
		if got != (outcome{}) {
			t.Errorf("one that runs alone: %+v", got)
		}
	}
	if got, want := p.log(), strings.Repeat("mirror begins\nmirror ends\n", 2); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// The permit comes back however the job ends.
	p.standIn("mirror-site", "kill -9 $$")
	if got := p.run(mirror); got.status != 128+9 {
		t.Errorf("a job that is killed: %+v", got)
	}
	p.standIn("mirror-site", "")
	if got := p.run(mirror); got != (outcome{}) {
		t.Errorf("after one was killed: %+v", got)
	}

	p.standIn("scrub-disks", `echo scrub >>"$LOG.scrub"`)
	if got := p.run(scrub); got != (outcome{}) {
		t.Error(got)
	}
	gaveUp(p.run(scrub))
	if got, err := os.ReadFile(os.Getenv("LOG") + ".scrub"); string(got) != "scrub\n" {
		t.Errorf("%q, %v; want one start", got, err)
	}
}

func xargsRecipe(p *place, line string) {
	const images, limit = 10, 4
	want := ""
	for i := range images {
		name := fmt.Sprintf("an image %d.png", i)
		p.touch(name)
		want += strings.Repeat("./"+name+"\n", 2)
	}
	p.touch("none.jpg")
	p.standIn("optipng", `printf '%s\n' "$1" >>"$LOG"; exec `+p.witness(limit, 2*images))
	if most := p.together(line, []string{"", ""}, nil); most != limit {
		p.t.Errorf("%d at once, want %d", most, limit)
	}
	got := strings.SplitAfter(p.log(), "\n")
	slices.Sort(got)
	if strings.Join(got, "") != want {
		p.t.Errorf("optipng got %q, want %q", got, want)
	}
}

func makeRecipe(p *place, line string) {
	testkit.NeedTool(p.t, "make")
	const sources, limit = 6, 4
	dirs := []string{"one", "two"}
	for _, dir := range dirs {
		if err := os.Mkdir(filepath.Join(p.dir, dir), 0o700); err != nil {
			p.t.Fatal(err)
		}
		makefile := "all:"
		for i := range sources {
			p.touch(fmt.Sprintf("%s/%d.c", dir, i))
			makefile += fmt.Sprintf(" %d.o", i)
		}
		if err := os.WriteFile(filepath.Join(p.dir, dir, "Makefile"), []byte(makefile+"\n"), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	p.standIn("cc", `for source; do :; done; echo "$source" >"${source%c}o"; exec `+p.witness(limit, len(dirs)*sources))
	if most := p.together(line, dirs, nil); most != limit {
		p.t.Errorf("%d at once, want %d", most, limit)
	}
	if made, err := filepath.Glob(filepath.Join(p.dir, "*/*.o")); len(made) != len(dirs)*sources {
		p.t.Errorf("made %q, %v", made, err)
	}
}

func ciRecipe(p *place, line string) {
	const runners, limit = 5, 2
	p.standIn("./integration-tests", `procsem show integration | grep -q " job $CI_JOB_ID " || echo "job $CI_JOB_ID is not shown" >>"$LOG"; exec `+p.witness(limit, runners))
	if most := p.together(line, make([]string, runners), func(i int) []string { return []string{fmt.Sprint("CI_JOB_ID=4", i)} }); most != limit {
		p.t.Errorf("%d at once, want %d", most, limit)
	}
	if got := p.log(); got != "" {
		p.t.Error(got)
	}
	// Jobs that are cancelled leave no lock behind.
	p.standIn("./integration-tests", waits("job", "never"))
	jobs := []*job{p.begin(line, ""), p.begin(line, "")}
	eventually(p.t, "two are inside", func() bool { return strings.Count(p.log(), "begins") == limit })
	jobs = append(jobs, p.begin(line, ""))
	awaitWaiters(p.t, "integration", 1)
	for _, j := range jobs {
		killGroup(j.Cmd)
		wait(p.t, j.Cmd)
	}
	p.standIn("./integration-tests", "exit 6")
	if got := p.run(line); got != (outcome{status: 6}) {
		p.t.Errorf("after the others were cancelled: %+v", got)
	}
}

// exclusive is what a stand-in does that uses things of which each can only be used by one at a time: it says
// if one of them is taken, calls witness, and writes down which it has used.
func exclusive(things, witness string) string {
	return `things="` + things + `"
for thing in $things; do mkdir "thing.$thing" || echo "$thing is taken" >>"$LOG"; done
` + witness + `
for thing in $things; do rmdir "thing.$thing"; done
echo "used:" $things >>"$LOG"`
}

// used returns what stand-ins of exclusive have used, each of which is wanted to be so many, and fails the test if something was taken.
func (p *place) used(runs, each int) (all []string) {
	p.t.Helper()
	lines := strings.Split(strings.TrimSpace(p.log()), "\n")
	if len(lines) != runs {
		p.t.Errorf("%q, want %d lines", lines, runs)
	}
	for _, line := range lines {
		things := strings.Fields(line)
		if things[0] != "used:" || len(things) != 1+each {
			p.t.Errorf("%q, want that it has used %d", line, each)
		}
		all = append(all, things[1:]...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func gpuRecipe(p *place, block string) {
	lines := strings.Split(strings.TrimSpace(block), "\n")
	if len(lines) != 2 {
		p.t.Fatalf("%q, want two lines", lines)
	}
	for i, tt := range []struct{ runs, each, atOnce int }{{6, 1, 4}, {4, 2, 2}} {
		os.Remove(os.Getenv("LOG"))
		p.witnesses += fmt.Sprint(i)
		if err := os.Mkdir(p.witnesses, 0o700); err != nil {
			p.t.Fatal(err)
		}
		p.standIn("./train", exclusive(`$(echo "$CUDA_VISIBLE_DEVICES" | tr , ' ')`, p.witness(tt.atOnce, tt.runs)))
		if most := p.together(lines[i], make([]string, tt.runs), nil); most != tt.atOnce {
			p.t.Errorf("%s: %d at once, want %d", lines[i], most, tt.atOnce)
		}
		if got := p.used(tt.runs, tt.each); fmt.Sprint(got) != "[0 1 2 3]" {
			p.t.Errorf("%s: the GPUs %v were used, want 0 to 3", lines[i], got)
		}
	}
}

func migrationRecipe(p *place, line string) {
	const servers = 6
	t := p.t
	p.standIn("./server", `[ -e migrated-42 ] || echo too early >>"$LOG"; echo server >>"$LOG"`)
	p.standIn("./migrate", `echo "migrate $1 fails" >>"$LOG"; exit 7`)
	if got := p.run(line); got != (outcome{status: 7}) {
		t.Errorf("a migration that fails: %+v, want its status", got)
	}
	p.standIn("./migrate", "kill -9 $$")
	if got := p.run(line); got.status != 128+9 {
		t.Errorf("a migration that is killed: %+v", got)
	}
	p.standIn("./migrate", `echo "migrate $1" >>"$LOG"; `+waits("$0", "go"))
	var jobs []*job
	for range servers {
		jobs = append(jobs, p.begin(line, ""))
	}
	awaitWaiters(t, "migrate", servers-1)
	p.touch("go")
	for _, j := range jobs {
		if got := j.end(t); got != (outcome{}) {
			t.Errorf("a server: %+v", got)
		}
	}
	if got, want := p.log(), "migrate 42 fails\nmigrate 42\n./migrate begins\n./migrate ends\n"+strings.Repeat("server\n", servers); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func databaseRecipe(p *place, line string) {
	const runs, limit = 5, 3
	p.standIn("./run-tests", `[ "${DATABASE_URL%/*}" = postgres://localhost ] || exit; `+exclusive("${DATABASE_URL##*/}", p.witness(limit, runs)))
	if most := p.together(line, make([]string, runs), nil); most != limit {
		p.t.Errorf("%d at once, want %d", most, limit)
	}
	if got := p.used(runs, 1); fmt.Sprint(got) != "[test0 test1 test2]" {
		p.t.Errorf("the databases %v were used, want test0 to test2", got)
	}
}

func weightRecipe(p *place, block string) {
	t := p.t
	lines := strings.Split(strings.TrimSpace(block), "\n")
	if len(lines) != 3 {
		t.Fatalf("%q, want three lines", lines)
	}
	small, big, huge := lines[0], lines[1], lines[2]
	weights := map[string]int{"small": 1, "big": 4, "huge": 8}
	for name := range weights {
		p.standIn("./"+name, waits(name, "go."+name))
	}
	var jobs []*job
	begin := func(line string) { jobs = append(jobs, p.begin(line, "")) }
	begun := func(name string, n int) {
		t.Helper()
		eventually(t, fmt.Sprint(n, " ", name, " have begun"), func() bool { return strings.Count(p.log(), name+" begins") == n })
	}
	// A big one and four small ones are all that there is room for.
	begin(big)
	begun("big", 1)
	for range 4 {
		begin(small)
	}
	begun("small", 4)
	begin(big)
	awaitWaiters(t, "ram", 1)
	begin(small)
	awaitWaiters(t, "ram", 2)
	if o, err := observe("ram"); err != nil || o.Value != 0 {
		t.Errorf("%d are free, %v; want none", o.Value, err)
	}
	p.touch("go.small")
	begun("big", 2)
	// The huge one waits for all of them, and a small one that comes while it runs for it.
	begin(huge)
	eventually(t, "the huge one waits", func() bool {
		o, err := observe("ram")
		return err == nil && slices.ContainsFunc(o.Handles, func(h engine.ObservedHandle) bool { return h.Want < 0 })
	})
	p.touch("go.big")
	begun("huge", 1)
	begin(small)
	awaitWaiters(t, "ram", 1)
	p.touch("go.huge")
	for _, j := range jobs {
		if got := j.end(t); got != (outcome{}) {
			t.Errorf("%+v", got)
		}
	}
	inside := 0
	for line := range strings.Lines(p.log()) {
		switch name, what, _ := strings.Cut(strings.TrimSpace(line), " "); what {
		case "begins":
			inside += weights[name]
		case "ends":
			inside -= weights[name]
		}
		if inside > 8 {
			t.Errorf("%d of 8 are taken at %q of\n%s", inside, line, p.log())
		}
	}
	if got := strings.Count(p.log(), "small ends"); got != 6 {
		t.Errorf("%d small ones have ended, want 6", got)
	}
}

// The job of cron that writes metrics replaces the file at once.
func TestMetricsFromCron(t *testing.T) {
	block := regexp.MustCompile("(?s)```crontab\n\\S+ \\S+ \\S+ \\S+ \\S+ (.*?)\n```").FindStringSubmatch(chapter(t, "command.md", "At boot")["Metrics"])
	if block == nil {
		t.Fatal("docs/command.md has no line for cron")
	}
	p := newPlace(t)
	if got := p.run("procsem create -n 3 build"); got.status != 0 {
		t.Fatal(got)
	}
	line := strings.ReplaceAll(block[1], "/var/lib/node_exporter", p.dir)
	for range 2 {
		if got := p.run(line); got != (outcome{}) {
			t.Errorf("%s: %+v", line, got)
		}
	}
	files, err := os.ReadDir(p.dir)
	if err != nil || len(files) != 1 {
		t.Errorf("there are %v, %v, want one file", files, err)
	}
	if text, err := os.ReadFile(filepath.Join(p.dir, "procsem.prom")); err != nil || !strings.Contains(string(text), `procsem_limit_permits{name="build",kind="recoverable"} 3`) {
		t.Errorf("%v:\n%s", err, text)
	}
}
