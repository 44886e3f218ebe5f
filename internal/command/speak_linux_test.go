package command

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is written to a terminal, so far.
type recording struct {
	mu   sync.Mutex
	text strings.Builder
}

// record reads what is written to a terminal, from its other end.
func record(master *os.File) *recording {
	r := &recording{}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			r.mu.Lock()
			r.text.Write(b[:n])
			r.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return r
}

func (r *recording) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// has waits until all that was written matches.
func (r *recording) has(t *testing.T, what, whole string) {
	t.Helper()
	re := regexp.MustCompile(`(?s)\A` + whole + `\z`)
	defer func() {
		if t.Failed() {
			t.Logf("written: %q", r)
		}
	}()
	eventually(t, what, func() bool { return re.MatchString(r.String()) })
}

// flow stops a terminal, as Ctrl-S does, or lets it go on.
func flow(t *testing.T, slave *os.File, action int) {
	t.Helper()
	if err := unix.IoctlSetInt(int(slave.Fd()), unix.TCXONC, action); err != nil {
		t.Fatal(err)
	}
}

const tcooff, tcoon = 0, 1 // of tcflow(3)

// A terminal that was stopped keeps a waiter neither from running its command when it gets the permit, nor from
// giving up, nor from dying of a signal. The line stays there then, and what the command prints follows.
func TestWaitOnStoppedTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	name, dir := newName(t), t.TempDir()
	waits := func(args ...string) (w outcomeOf, screen *recording, slave *os.File) {
		t.Helper()
		master, slave := openTerminal(t)
		cmd := procsemCommand(t, args...)
		cmd.Stdin, cmd.Stderr = slave, slave
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
		start(t, cmd)
		screen = record(master)
		screen.has(t, "a line", `.*waiting, 1st of 1.*`)
		flow(t, slave, tcooff)
		t.Cleanup(func() { flow(t, slave, tcoon) })
		return outcomeOf{cmd.Process, func() outcome { return wait(t, cmd) }}, screen, slave
	}
	_, command := startHolder(t, name, filepath.Join(dir, "held"))

	w, _, _ := waits("run", name, "true")
	if err := w.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := w.ends(); got.signal != syscall.SIGTERM {
		t.Errorf("%+v, want death by SIGTERM", got)
	}

	w, screen, slave := waits("run", "-w", "8", name, "true")
	eventually(t, "it gives up", func() bool { return len(shown(t, name).Waiters) == 0 })
	flow(t, slave, tcoon)
	if got := w.ends(); got.status != statusTempFail {
		t.Errorf("%+v, want status %d", got, statusTempFail)
	}
	screen.has(t, "why it has given up", `.*no permit of[^\n]*\n`)

	started := filepath.Join(dir, "started")
	w, screen, slave = waits("run", name, "sh", "-c", "echo >"+started+"; echo out >&2")
	kill(t, command)
	eventually(t, "the command runs", func() bool { _, err := os.Stat(started); return err == nil })
	flow(t, slave, tcoon)
	if got := w.ends(); got.status != 0 {
		t.Errorf("%+v", got)
	}
	screen.has(t, "the command's output, and nothing after the line", `(\rprocsem: [^\x1b]*\x1b\[J\r)+out\r\n`)
}

// An outcomeOf is a process that is to end.
type outcomeOf struct {
	process *os.Process
	ends    func() outcome
}

// A notice waits for a terminal that was stopped, and takes the place of the line; after the wait's end nothing is
// erased any more.
func TestTellerErasesOnlyItsLine(t *testing.T) {
	for what, ends := range map[string]bool{"waits": false, "has ended": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			master, slave := openTerminal(t)
			screen := record(master)
			tell := &teller{to: slave, stop: make(chan struct{}), timer: time.NewTimer(time.Hour)}
			tell.ended.Add(1)
			tell.draw(scene{name: "build", what: "waiting"}, 200)
			const line = `\rprocsem: build: waiting, for [^\x1b]*\x1b\[J\r`
			screen.has(t, "a line", line)
			flow(t, slave, tcooff)
			tell.clear()
			want := `\r\x1b\[K\x1b\[Jnotice\r\n`
			if ends {
				tell.end()
				want = `notice\r\n`
			}
			written := make(chan struct{})
			go func() { fmt.Fprintln(tell, "notice"); close(written) }()
			flow(t, slave, tcoon)
			receive(t, written, "a notice")
			screen.has(t, "a notice", line+want)
		})
	}
}

// The line is erased while the terminal still obeys, and a terminal that takes nothing at the end stays as it is.
func TestTellerRestoresTerminal(t *testing.T) {
	for what, stopped := range map[string]bool{"running": false, "stopped": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			master, slave := openTerminal(t)
			screen := record(master)
			restored := make(chan struct{})
			tell := &teller{
				began: time.Now(), to: slave, stop: make(chan struct{}), mayDraw: func() bool { return true },
				look: func() scene { return scene{name: "build", what: "waiting"} },
				prepare: func(out io.Writer) (func(), error) {
					return func() {
						defer close(restored)
						if !stopped {
							fmt.Fprint(out, "restored")
						}
					}, nil
				},
			}
			ended := make(chan struct{})
			go func() { tell.tell(); close(ended) }()
			screen.has(t, "a line", `(\rprocsem: build: waiting, for `+aTime+`\x1b\[J\r)+`)
			if stopped {
				flow(t, slave, tcooff)
				defer flow(t, slave, tcoon)
			}
			close(tell.stop)
			receive(t, ended, "the end")
			receive(t, restored, "the terminal as it was")
			if !stopped {
				screen.has(t, "the line erased, before the terminal is as it was", `.*\x1b\[J\r\r\x1b\[K\x1b\[Jrestored`)
			}
		})
	}
}
