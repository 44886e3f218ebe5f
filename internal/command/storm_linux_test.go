//go:build !filelock_fcntl

// The storm of the command: scripts run procsem in all of its ways to hold permits, while a killer sends signals to all
// that belongs to them, at random.

package command

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testkit"
	"golang.org/x/sys/unix"
)

var (
	stormKills    = flag.Int("storm.kills", 100, "how many signals the storm of the command sends")
	stormPatience = flag.Duration("storm.patience", 3*testkit.Hang, "how long what is left of the storm may take to end")
)

func kills() int { return testkit.Times(*stormKills) }

func init() {
	helpers["inside"] = inside
	helpers["storm"] = stormMain
}

// The limits of the storm's two semaphores.
var stormLimits = [2]int{3, 2}

// A process that is inside has a POSIX record lock on the bytes of a file, which the kernel drops, when its process dies,
// before it drops the locks of open files, by which the permit may stay taken. Process p is inside of the semaphore i as often
// as it has locked bytes from i<<40 + p<<8; and the number n of the semaphore i is the byte i<<40 + 1<<39 + n.
const (
	areaBits   = 40
	numberBits = 39
	placeBits  = 8
	gateAt     = int64(len(stormLimits)) << areaBits
)

type stormFile struct{ *os.File }

func (f stormFile) lock(command int, kind int16, at, n int64) (unix.Flock_t, error) {
	l := unix.Flock_t{Type: kind, Start: at, Len: n}
	var err error = unix.EINTR
	for err == unix.EINTR {
		err = unix.FcntlFlock(f.Fd(), command, &l)
	}
	return l, err
}

// count counts the bytes from at to end that other processes have locked.
func (f stormFile) count(at, end int64) int {
	if at >= end {
		return 0
	}
	// One of them: not the first.
	found, err := f.lock(unix.F_GETLK, unix.F_WRLCK, at, end-at)
	if err != nil {
		panic(err)
	}
	if found.Type == unix.F_UNLCK {
		return 0
	}
	behind := found.Start + found.Len
	return f.count(at, found.Start) + int(found.Len) + f.count(behind, end)
}

// inside, a helper, is a command that holds permits: its arguments are the file, how long it works at the longest, the
// semaphore that PROCSEM_SLOT is about (-1: none), and how many of each it holds. It prints how many are inside, or what must not be.
func inside(args []string) int {
	osFile, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		fmt.Println("violation:", err)
		return 1
	}
	f := stormFile{osFile}
	complain := func(err error, format string, a ...any) int {
		if err != nil {
			fmt.Printf("violation: "+format+"\n", a...)
		}
		return 1
	}
	longest, err := time.ParseDuration(args[1])
	if err != nil {
		return complain(err, "how long to work: %v", err)
	}
	if _, err := f.lock(unix.F_SETLKW, unix.F_WRLCK, gateAt, 1); err != nil {
		return complain(err, "the gate: %v", err)
	}
	said := "inside"
	for i, held := range args[3:] {
		n := int64(atoi(held))
		if n == 0 {
			continue
		}
		area := int64(i) << areaBits
		own := area + int64(os.Getpid())<<placeBits
		if _, err := f.lock(unix.F_SETLK, unix.F_WRLCK, own, n); err != nil {
			return complain(err, "the own place: %v", err)
		}
		total := int(n) + f.count(area, area+1<<numberBits)
		if total > stormLimits[i] {
			return complain(syscall.EDEADLK, "%d inside of semaphore %d, allowed are %d", total, i, stormLimits[i])
		}
		said += fmt.Sprintf(" %d:%d", i, total)
		if i != atoi(args[2]) {
			continue
		}
		numbers := strings.Split(os.Getenv(slotVariable), ",")
		if len(numbers) != int(n) {
			return complain(syscall.EINVAL, "%d permits have the numbers %q", n, numbers)
		}
		for _, number := range numbers {
			if _, err := f.lock(unix.F_SETLK, unix.F_WRLCK, area+1<<numberBits+int64(atoi(number)), 1); err != nil {
				return complain(err, "the number %s is another's: %v", number, err)
			}
		}
	}
	fmt.Println(said)
	if _, err := f.lock(unix.F_SETLK, unix.F_UNLCK, gateAt, 1); err != nil {
		return complain(err, "the gate: %v", err)
	}
	time.Sleep(rand.N(longest)) // the work
	return 0
}

// A stormDriver starts scripts and kills. It is a process of its own, which gets all that is left behind by its
// descendants.
type stormDriver struct {
	names []string
	file  string
	tops  map[int]bool  // the scripts that run
	work  time.Duration // the longest of a command
	did   map[string]int
}

// A relative is a process that a script has started.
type relative struct {
	pid, parent, group, session int
	state                       byte
	args                        []string
}

const (
	stormScripts  = 10
	anotherSignal = "another signal"
)

// stormMain, a helper, is the storm. Its arguments are the names, the file, how many signals to send, and for how long to
// wait for the end.
func stormMain(args []string) int {
	d := &stormDriver{
		names: args[:2], file: args[2], tops: make(map[int]bool), work: 25 * time.Millisecond, did: make(map[string]int),
	}
	kills := atoi(args[3])
	patience, err := time.ParseDuration(args[4])
	if err == nil {
		err = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	if err != nil {
		fmt.Println("violation:", err)
		return 1
	}
	for kills > 0 {
		d.fill()
		time.Sleep(rand.N(12 * time.Millisecond)) // the moment to strike at
		if d.strike(false) {
			kills--
		}
	}
	// What chance has missed is sought, among commands that work for longer than it takes to find them.
	d.work = time.Second
	for deadline := time.Now().Add(patience); len(d.missing()) > 0 && time.Now().Before(deadline); {
		d.fill()
		d.strike(true)
	}
	// What is left ends by itself.
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		d.reap()
		left := d.relatives()
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			for _, p := range left {
				fmt.Printf("violation: not ended: %d (%c) %q\n", p.pid, p.state, p.args)
				syscall.Kill(p.pid, syscall.SIGKILL)
			}
			break
		}
	}
	for _, step := range d.missing() {
		fmt.Println("violation: nothing was killed of:", step)
	}
	var did []string
	for _, what := range slices.Sorted(maps.Keys(d.did)) {
		did = append(did, fmt.Sprintf("%s:%d", what, d.did[what]))
	}
	fmt.Println("killed:", strings.Join(did, " "))
	return 0
}

// fill starts scripts until there are as many as there shall be.
func (d *stormDriver) fill() {
	d.reap()
	for len(d.tops) < stormScripts {
		d.startScript()
	}
}

// reap waits for the children that have ended, our own and those that were left to us.
func (d *stormDriver) reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid == 0 {
			return
		}
		delete(d.tops, pid)
	}
}

// startScript starts a procsem, or a shell script, that holds permits in one of all the ways.
func (d *stormDriver) startScript() {
	x, y := d.names[0], d.names[1]
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	inside := func(slots, inX, inY string) []string {
		return []string{self, helperArg + "inside", d.file, d.work.String(), slots, inX, inY}
	}
	type way struct {
		args    string
		command []string
	}
	var (
		one   = inside("0", "1", "0")
		both  = inside("0", "1", "1")
		bothY = inside("1", "1", "1")
	)
	// The outer procsem gives its permit back when the process is killed that has run the inner one, whose command goes on.
	again := append([]string{self, helperArg + "procsem", "run", "-w", "0.02", x}, one...)
	further := append([]string{self, helperArg + "procsem", "run", y}, inside("1", "0", "1")...)
	ways := []way{
		{"run " + x, one},
		{"run -w 0.03 " + x, one},
		{"run --max-hold 0.05 --kill-after 0.01 " + x, one},
		{"run -k 2 " + x, inside("0", "2", "0")},
		{"run -k all " + x, inside("0", "3", "0")},
		{"run --also " + y + " " + x, both},
		{"run --also " + x + " -w 0.1 " + y, bothY},
		{"run --also " + y + " -k all " + x, inside("0", "3", "1")},
		{"run -F " + x, one},
		{"run -F --also " + x + " " + y, bothY},
		{"run " + x, again},
		{"run " + x, further},
		{"run --bg " + x, one},
		{"run --bg -w 0.03 " + x, one},
		{"run --bg --also " + x + " " + y, bothY},
		{"run --bg -F --also " + y + " " + x, both},
		{"run --bg -k 2 " + x, inside("0", "2", "0")},
	}
	w := ways[rand.IntN(len(ways))]
	cmd := exec.Command(self, append(strings.Fields(w.args), w.command...)...)
	cmd.Env = append(os.Environ(), helperEnv+"=1")
	if testkit.HasByteLocks() && rand.IntN(4) == 0 {
		cmd = exec.Command("/bin/sh", "-c", `
			exec 9<>"$(`+helperEnv+`=1 "$self" path "$name")" || exit
			`+helperEnv+`=1 "$self" lock --fd 9 "$name" || exit
			"$@"
			`+helperEnv+`=1 "$self" unlock --fd 9 "$name"`, "sh")
		cmd.Args = append(cmd.Args, inside("-1", "1", "0")...)
		cmd.Env = append(os.Environ(), "self="+self, "name="+x)
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		fmt.Println("violation:", err)
		return
	}
	d.tops[cmd.Process.Pid] = true
	cmd.Process.Release() // reap waits for it
}

// relatives returns all descendants that have not ended.
func (d *stormDriver) relatives() (all []relative) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		panic(err)
	}
	children := make(map[int][]relative)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		p := relative{pid: pid}
		_, rest, _ := strings.Cut(string(stat[strings.LastIndex(string(stat), ")"):]), " ")
		fmt.Sscanf(rest, "%c %d %d %d", &p.state, &p.parent, &p.group, &p.session)
		children[p.parent] = append(children[p.parent], p)
	}
	for generation := []int{os.Getpid()}; len(generation) > 0; {
		var next []int
		for _, pid := range generation {
			for _, p := range children[pid] {
				next = append(next, p.pid)
				if p.state != 'Z' && p.state != 'X' {
					line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
					p.args = strings.Split(string(line), "\x00")
					all = append(all, p)
				}
			}
		}
		generation = next
	}
	return all
}

// role says what a process is for.
func (p relative) role() string {
	switch {
	case len(p.args) < 2:
		return "none" // between two programs
	case slices.Contains(p.args[:2], helperArg+"inside"):
		return "command"
	case slices.Contains(p.args[:2], helperArg+"procsem"):
		return "nested"
	case p.args[1] == "-c":
		return "shell"
	case p.args[1] == "lock" || p.args[1] == "unlock" || p.args[1] == "path":
		return p.args[1]
	case p.args[2] == "--bg" && p.session == p.pid:
		return "background"
	case p.args[2] == "--bg":
		return "front"
	case p.args[2] == "-F":
		return "run -F"
	}
	return "run"
}

// doings says which processes wait, and which hold.
func (d *stormDriver) doings() map[int]string {
	did := make(map[int]string)
	for _, name := range d.names {
		o, err := observe(name)
		if err != nil {
			continue
		}
		for _, h := range o.Handles {
			if h.Waiting {
				did[h.PID] = " that waits"
			} else if did[h.PID] == "" {
				did[h.PID] = " that holds"
			}
		}
	}
	return did
}

// stormSignals are sent most of the time; the others, but for the real-time ones, are anotherSignal.
var stormSignals = []syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGSTOP}

// strike sends a signal to one of the processes, or to its group, and reports whether it has. To seek is to strike only
// what was missing.
func (d *stormDriver) strike(seek bool) bool {
	all := d.relatives()
	if len(all) == 0 {
		return false
	}
	p := all[rand.IntN(len(all))]
	missing := d.missing()
	isMissing := func(p relative, did map[int]string) bool {
		return slices.Contains(missing, p.role()) || slices.Contains(missing, p.role()+did[p.pid])
	}
	if seek || rand.IntN(2) == 0 {
		// Rather one of a kind that was not hit yet, if there is one.
		did := d.doings()
		for _, other := range all {
			if isMissing(other, did) {
				p = other
			}
		}
	}
	sig := stormSignals[rand.IntN(len(stormSignals))]
	name := unix.SignalName(sig)
	if rand.IntN(5) == 0 {
		if other := 1 + syscall.Signal(rand.IntN(31)); !slices.Contains(stormSignals, other) {
			sig, name = other, anotherSignal
		}
	}
	to := p.pid
	if rand.IntN(8) == 0 && p.group != syscall.Getpgrp() {
		to = -p.group // as by Ctrl-C
	}
	defer syscall.Kill(to, syscall.SIGCONT) // also after SIGTSTP and the like
	if seek || sig == syscall.SIGSTOP || rand.IntN(2) == 0 {
		syscall.Kill(to, syscall.SIGSTOP)
		time.Sleep(rand.N(3 * time.Millisecond)) // it stands still
	}
	did := d.doings()
	if seek && !isMissing(p, did) && !slices.Contains(missing, name) {
		return false
	}
	if sig != syscall.SIGSTOP {
		syscall.Kill(to, sig)
	}
	d.did[p.role()+did[p.pid]]++
	d.did[name]++
	return true
}

// missing lists what the storm has not hit yet.
func (d *stormDriver) missing() (steps []string) {
	want := []string{"run that waits", "run that holds", "front", "background that waits", "background that holds", "command", "nested"}
	if testkit.HasByteLocks() {
		want = append(want, "shell", "lock that waits")
	}
	want = append(want, anotherSignal)
	for _, sig := range stormSignals {
		want = append(want, unix.SignalName(sig))
	}
	return slices.DeleteFunc(slices.Compact(want), func(step string) bool { return d.did[step] > 0 })
}

// Whatever is killed, with whichever signal, never more hold permits than the limit says, no two have the same number,
// all permits come back, and no process stays behind.
func TestStormOfCommands(t *testing.T) {
	if testkit.Emulated() {
		t.Skip("on an emulator: too slow for a storm with kills (TestStormWithoutKills runs)")
	}
	all, _ := newNames(t, len(stormLimits))
	for i, name := range all {
		if got := run(t, "create", "-n", fmt.Sprint(stormLimits[i]), name); got.status != 0 {
			t.Fatalf("%+v", got)
		}
	}
	dir := t.TempDir()
	file, log := filepath.Join(dir, "inside"), filepath.Join(dir, "stderr")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stderr, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	args := helperCommand(t, "storm", append(all, file, fmt.Sprint(kills()), stormPatience.String())...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}                            // without a terminal procsem does not stop with its command
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE")) // see procsemCommand
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	entered, full := 0, make(map[string]bool)
	for line := range readLines(out).next {
		switch what, rest, _ := strings.Cut(line, " "); what {
		case "inside":
			entered++
			for _, each := range strings.Fields(rest) {
				full[each] = true
			}
		case "killed:":
			t.Logf("killed: %s; %d commands held permits", rest, entered)
		default:
			t.Error(line)
		}
	}
	if got := wait(t, cmd); got.status != 0 {
		t.Errorf("the storm ended: %+v", got)
	}
	for i, limit := range stormLimits {
		// Of a few commands on a busy machine all may be killed before they are many.
		if !full[fmt.Sprintf("%d:%d", i, limit)] && kills() >= 1000 && !t.Failed() {
			t.Errorf("never were %d inside of semaphore %d, so that one more could have been seen", limit, i)
		}
	}
	said, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	// SIGQUIT ends a Go program that has not caught it yet with the stacks of its goroutines, and under the race
	// detector to print these may fail.
	said = bytes.ReplaceAll(said, []byte("fatal error: unsafe.Slice: len out of range\npanic during panic\n"), nil)
	for _, wrong := range []string{"panic:", "fatal error:", "DATA RACE", "could not be given back"} {
		if _, after, found := strings.Cut(string(said), wrong); found { // stacks follow
			t.Errorf("stderr: %s%s", wrong, after[:min(len(after), 10000)])
		}
	}
	for i, name := range all {
		eventually(t, "all permits are back", func() bool { return valueOf(t, name) == stormLimits[i] })
		s, err := semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithCreate(false))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if p, err := s.TryAcquireN(semaphore.All); err != nil || len(p.Slots()) != stormLimits[i] {
			t.Errorf("%s: not all %d permits can be taken: %v", name, stormLimits[i], err)
		}
		if err := s.TryWait(); !errors.Is(err, semaphore.ErrWouldBlock) {
			t.Errorf("%s: a permit beyond the limit: %v", name, err)
		}
	}
}
