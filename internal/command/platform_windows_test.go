package command

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

const eol = "\r\n"

func init() {
	helpers["interrupt"] = interrupt
	helpers["break away"] = breakAway
}

func hearInterrupts() {}

func becomeHelper() {}

// tempDir replaces t.TempDir, whose os.RemoveAll uses calls that Wine 8 lacks.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "procsem-test-")
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir) // as messages have it
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var all []string
		filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			all = append(all, path)
			return err
		})
		for _, path := range slices.Backward(all) {
			// A file cannot be removed while it is open or mapped. The file of
			// a closed handle stays mapped until the handle is collected.
			eventually(t, "cleaning up "+path, func() bool {
				runtime.GC()
				return os.Remove(path) == nil
			})
		}
	})
	return dir
}

// group has nothing to do: the command ends when procsem is killed.
func group(*exec.Cmd) {}

func killGroup(cmd *exec.Cmd) { cmd.Process.Kill() }

func signalOf(*os.ProcessState) syscall.Signal { return 0 }

// holdFile opens a file so that it cannot be opened again until it is closed.
func holdFile(path string) (io.Closer, error) {
	return openFile(path, windows.GENERIC_READ, 0, windows.OPEN_ALWAYS)
}

func isHeld(path string) bool {
	const all = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	f, err := openFile(path, windows.GENERIC_READ, all, windows.OPEN_EXISTING)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION)
}

func openFile(path string, access, share, how uint32) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFile(name, access, share, nil, how, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(h), path), nil
}

func platformStatuses(t *testing.T) []statusTest {
	tests := []statusTest{{"cmd", []string{"--", "cmd", "/c", "exit 3"}, 3}}
	for _, status := range []uint32{statusCtrlC, uint32(windows.STATUS_ACCESS_VIOLATION), 1<<32 - 1} {
		text := fmt.Sprint(status)
		tests = append(tests, statusTest{text, append([]string{"--"}, helperCommand(t, "exit", text)...), int(status)})
	}
	return tests
}

// listen, a helper, prints a line for each Ctrl-C and, when its standard input ends,
// the number of them.
func listen([]string) int {
	heard := make(chan os.Signal, 100)
	signal.Notify(heard, os.Interrupt)
	end := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		end <- err
	}()
	fmt.Println("ready")
	for n := 0; ; {
		select {
		case <-heard:
			n++
			fmt.Println("Ctrl-C")
		case <-end:
			time.Sleep(100 * time.Millisecond) // a second copy of a Ctrl-C would come now
			fmt.Println(n+len(heard), "in all")
			return listenStatus
		}
	}
}

// interrupt, a helper, presses Ctrl-C in the console of the process that has the id in
// its argument.
func interrupt(args []string) int {
	kernel32 := windows.NewLazySystemDLL("kernel32.dll")
	kernel32.NewProc("FreeConsole").Call()
	if r, _, err := kernel32.NewProc("AttachConsole").Call(uintptr(atoi(args[0]))); r == 0 {
		fmt.Fprintln(os.Stderr, "AttachConsole:", err)
		return 1
	}
	// This process gets the Ctrl-C too, and ignores it.
	if r, _, err := kernel32.NewProc("SetConsoleCtrlHandler").Call(0, 1); r == 0 {
		fmt.Fprintln(os.Stderr, "SetConsoleCtrlHandler:", err)
		return 1
	}
	if err := windows.GenerateConsoleCtrlEvent(windows.CTRL_C_EVENT, 0); err != nil {
		fmt.Fprintln(os.Stderr, "GenerateConsoleCtrlEvent:", err)
		return 1
	}
	return 0
}

// breakAway, a helper, starts a process outside the job, prints its id, and runs until
// it is killed.
func breakAway([]string) int {
	if status := leaveWith(&syscall.SysProcAttr{CreationFlags: windows.CREATE_BREAKAWAY_FROM_JOB}); status != 0 {
		return status
	}
	return stay(nil)
}
