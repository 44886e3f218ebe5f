//go:build (unix && !aix && !filelock_fcntl) || windows

package semtest_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testkit"
	"github.com/procsem/semaphore/semtest"
)

// arriveMain is a process that arrives.
func arriveMain([]string) int {
	fmt.Println("arriving")
	if err := semtest.Arrive(); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := semtest.Arrive(); err == nil {
		fmt.Println("arrived twice")
	}
	fmt.Println("gone on")
	return 0
}

// arrivedMain is a process that ends when it has arrived.
func arrivedMain([]string) int {
	var base string
	var i int
	fmt.Sscanf(os.Getenv("SEMTEST_RENDEZVOUS"), "%s %d", &base, &i)
	s, err := semaphore.Open(fmt.Sprintf("%s.%d", base, i), semaphore.WithCreate(false))
	if err == nil {
		err = s.Post()
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func endMain([]string) int { return 3 }

// leaveMain is a process that ends, and leaves one behind that has its output.
func leaveMain([]string) int {
	cmd := ownHelper("never")
	cmd.Stdout = os.Stdout
	if _, err := cmd.StdinPipe(); err != nil { // closed when this process ends
		fmt.Println(err)
	}
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
	}
	return 3
}

func neverMain([]string) int {
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// testMain is a test that waits for a process that never arrives.
func testMain([]string) int {
	never := ownHelper("never")
	if _, err := never.StdinPipe(); err != nil { // which this process never closes
		fmt.Println(err)
		return 1
	}
	arrives := ownHelper("arrive")
	arrives.Stdout = os.Stdout
	run(time.Time{}, func(f *fake) {
		r := semtest.NewRendezvous(f)
		r.Start(arrives)
		r.Start(never)
		r.Release()
	})
	return 0
}

func ownHelper(name string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), testkit.HelperVariable+"="+name)
	return cmd
}

func started(t *testing.T, name string) (cmd *exec.Cmd, out *testkit.SyncBuffer) {
	cmd, out = testkit.Helper(t, name), new(testkit.SyncBuffer)
	cmd.Stdout = out
	return cmd, out
}

func TestRendezvous(t *testing.T) {
	var outs []*testkit.SyncBuffer
	f := run(time.Time{}, func(f *fake) {
		r := semtest.NewRendezvous(f)
		var waits []func() error
		for i := range 3 {
			if i == 2 {
				testkit.WaitFor(t, "two are arriving", func() bool {
					return outs[0].String()+outs[1].String() == "arriving\narriving\n"
				})
			}
			cmd, out := started(t, "arrive")
			outs, waits = append(outs, out), append(waits, r.Start(cmd))
		}
		for i, out := range outs {
			if strings.Contains(out.String(), "gone on") {
				t.Errorf("process %d did not wait for the others", i)
			}
		}
		r.Release()
		for _, wait := range waits {
			testkit.Must(t, wait())
			testkit.Must(t, wait())
		}
		cmd, out := started(t, "arrive") // and once more
		outs = append(outs, out)
		wait := r.Start(cmd)
		r.Release()
		testkit.Must(t, wait())
		r.Release() // of nobody
	})
	for i, out := range outs {
		if got := out.String(); got != "arriving\ngone on\n" {
			t.Errorf("process %d printed %q", i, got)
		}
	}
	if f.failed != nil {
		t.Errorf("failed with %q", f.failed)
	}
}

// The test ends, and says why, if a process cannot arrive any more. What it has started is killed, and nothing is left.
func TestRendezvousWithout(t *testing.T) {
	for _, tt := range []struct {
		what, helper string
		kill         bool
		within       time.Duration
		want         string
	}{
		{"ended", "end", false, 0, `^semtest: process 2 of 3 \(\d+, .*\) ended \(exit status 3\) before it had arrived$`},
		{"killed", "never", true, 0, `^semtest: process 2 of 3 \(\d+, .*\) ended \((signal: killed|exit status 1)\) before it had arrived$`},
		{"late", "never", false, 2 * time.Second, `^semtest: not arrived, and the deadline of the tests is near: .*process 2 of 3 \(\d+, .*\)`},
		{"ended, but for its output", "leave", false, 0, `^semtest: process 2 of 3 \(\d+, .*\) ended \(exit status 3\) before it had arrived$`},
		{"ended when it had arrived", "arrived", false, 0, `^$`},
	} {
		t.Run(tt.what, func(t *testing.T) {
			var deadline time.Time
			if tt.within != 0 {
				deadline = time.Now().Add(tt.within)
			}
			var waits []func() error
			f := run(deadline, func(f *fake) {
				r := semtest.NewRendezvous(f)
				for _, helper := range []string{"arrive", tt.helper, "arrive"} {
					cmd, _ := started(t, helper)
					pipe, err := cmd.StdinPipe()
					testkit.Must(t, err)
					defer pipe.Close()
					wait := r.Start(cmd)
					waits = append(waits, wait)
					switch {
					case helper != tt.helper:
					case tt.kill:
						testkit.Must(t, cmd.Process.Kill())
					case helper == "arrived":
						testkit.Must(t, wait())
					}
				}
				r.Release()
				for _, wait := range waits {
					testkit.Must(t, wait())
				}
			})
			if got := strings.Join(f.failed, "\n"); !regexp.MustCompile(tt.want).MatchString(got) {
				t.Errorf("failed with %q, want %s", got, tt.want)
			}
			for _, wait := range waits {
				wait() // none runs on
			}
		})
	}
}

// A process that waits learns that its test was killed.
func TestRendezvousOfKilledTest(t *testing.T) {
	cmd := testkit.Helper(t, "test")
	cmd.Env = append(cmd.Env, "TMPDIR="+testkit.TempDir(t)) // it leaves its directory
	out, err := cmd.StdoutPipe()                            // also that of the process that arrives
	testkit.Must(t, err)
	testkit.Must(t, cmd.Start())
	read := make([]byte, len("arriving\n"))
	_, err = io.ReadFull(out, read)
	testkit.Must(t, err)
	testkit.Must(t, cmd.Process.Kill())
	rest, err := io.ReadAll(out)
	testkit.Must(t, err)
	if got := string(read) + string(rest); got != "arriving\nsemtest: the test has ended before all had arrived\n" {
		t.Errorf("the process printed %q", got)
	}
	cmd.Wait() // what was left the process has removed; testkit.Main would find it
}

func TestArriveNowhere(t *testing.T) {
	for _, value := range []string{"", "semtest", "semtest.0123456789abcdef 0", "semtest.0123456789abcdef 0 " + os.TempDir()} {
		t.Setenv("SEMTEST_RENDEZVOUS", value)
		if err := semtest.Arrive(); err == nil {
			t.Errorf("it arrived at %q", value)
		}
	}
}
