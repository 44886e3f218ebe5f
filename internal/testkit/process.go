//go:build unix || windows

package testkit

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/procsem/semaphore/internal/store"
	"github.com/procsem/semaphore/internal/testhook"
)

// Helpers are the functions that a test binary runs instead of its tests when it is
// started as a helper process, by name; each one returns the exit status.
type Helpers map[string]func(args []string) int

// helpers are this binary's.
var helpers Helpers

const (
	// HelperVariable is the environment variable that makes a test binary a helper process.
	HelperVariable = "SEMAPHORE_TEST_HELPER"

	// NetVariable turns a helper process's safety net "on" or "off".
	NetVariable = "SEMAPHORE_TEST_NET"

	portableVariable = "SEMAPHORE_TEST_PORTABLE"
	patientVariable  = "SEMAPHORE_TEST_PATIENT"

	// libcVariable names a header of testdata/libc that this build was made with.
	libcVariable = "SEMAPHORE_TEST_LIBC"
)

var helpersUsed struct {
	sync.Mutex
	names map[string]bool
}

// UseHelper notes that a test uses a helper, or would if it were not skipped.
func UseHelper(name string) {
	helpersUsed.Lock()
	defer helpersUsed.Unlock()
	if helpersUsed.names == nil {
		helpersUsed.names = make(map[string]bool)
	}
	helpersUsed.names[name] = true
}

// Helper returns the command that runs a helper process.
func Helper(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	if helpers[name] == nil {
		t.Fatalf("no helper %q", name)
	}
	UseHelper(name)
	self, err := os.Executable()
	Must(t, err)
	cmd := exec.Command(self, args...)
	// The race detector would keep each process for a second at its end.
	cmd.Env = append(os.Environ(), HelperVariable+"="+name, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

// expectedRescues counts the rescues that tests have provoked in this process.
var expectedRescues int

// scratchMade is the directory that scratch has made, if any.
var scratchMade string

// Main runs the tests of a package, or one of its helpers if this process is to be one,
// and returns the exit status. After a whole run it also finds helpers that no test uses,
// files that were left behind, and waiters that only the safety net has rescued.
func Main(m *testing.M, of Helpers) int {
	helpers = of
	store.Patience *= 3 // the lock of /dev/shm is all runs' and all packages', and its holder may stand still
	OldKernel()
	if os.Getenv(libcVariable) == "macos" {
		testhook.MaxName = 29
	}
	// The net must not hide that a wake-up was lost. Without kills no waiter needs
	// it; tests that kill processes turn it on.
	net := os.Getenv(NetVariable)
	setSafetyNet(net == "on" || net == "" && !KernelReports())
	if name := os.Getenv(HelperVariable); name != "" {
		if os.Getenv(portableVariable) != "" {
			Portable()
		}
		testhook.Patient.Store(os.Getenv(patientVariable) != "")
		return helpers[name](os.Args[1:])
	}
	heedInterrupts()
	code := m.Run()
	if testing.Verbose() {
		fmt.Println("paths:", paths())
	}
	if scratchMade != "" {
		os.RemoveAll(scratchMade)
	}
	if code == 0 && flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.list").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" {
		code = checkWholeRun()
	}
	return code
}

// checkWholeRun finds what no single test can: helpers that no test uses, waiters that
// only the safety net has rescued, and semaphores that were left behind.
func checkWholeRun() int {
	code := 0
	for name := range helpers {
		if !helpersUsed.names[name] {
			fmt.Printf("FAIL: helper %q was not used by any test\n", name)
			code = 1
		}
	}
	if n := int(testhook.Rescued.Load()) - expectedRescues; n != 0 && KernelReports() {
		fmt.Printf("FAIL: the safety net rescued %d waiters\n", n)
		code = 1
	}
	for _, dir := range storeDirs {
		left, _ := filepath.Glob(filepath.Join(dir, "*"+NamePrefix()+"*"))
		if len(left) > 0 {
			fmt.Printf("FAIL: left behind: %v\n", left)
			code = 1
		}
	}
	return code
}

// setSafetyNet turns the safety net on or off, and returns what it was before.
func setSafetyNet(on bool) (before bool) { return !testhook.NoSafetyNet.Swap(!on) }

// RecoverPolls reports whether waiters of the recoverable engine poll.
func RecoverPolls() bool {
	return testhook.Polling.Load() || runtime.GOOS != "linux" && runtime.GOOS != "windows"
}

// Patience makes waiters of recoverable semaphores wait for each other until the test ends, however
// long that takes on a slow machine: no one is passed over because it seems to be stopped. It is
// called before helpers are started.
func Patience(t *testing.T) {
	t.Setenv(patientVariable, "1")
	testhook.Patient.Store(true)
	t.Cleanup(func() { testhook.Patient.Store(false) })
}

// netUsers counts the calls of Rescuing that are in force.
var netUsers int

// Rescuing turns the safety net on; its rescues until the returned function is called
// are expected.
func Rescuing() (restore func()) {
	if netUsers++; netUsers > 1 {
		return func() { netUsers-- }
	}
	before := int(testhook.Rescued.Load())
	net := setSafetyNet(true)
	return func() {
		netUsers--
		setSafetyNet(net)
		expectedRescues += int(testhook.Rescued.Load()) - before
	}
}
