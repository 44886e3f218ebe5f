// The lock under which semaphores are created.

package store_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/store"
	. "github.com/procsem/semaphore/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(Main(m, Helpers{"stores": storesMain})) }

// storesMain holds the mutex under which semaphores are created, until it reads a line or
// is killed.
func storesMain([]string) int {
	runtime.LockOSThread()
	h, err := windows.CreateMutex(nil, false, windows.StringToUTF16Ptr(store.MutexName))
	if h == 0 {
		panic(err)
	}
	if _, err := windows.WaitForSingleObject(h, windows.INFINITE); err != nil {
		panic(err)
	}
	fmt.Println("ready")
	fmt.Scanln()
	if err := windows.ReleaseMutex(h); err != nil {
		panic(err)
	}
	fmt.Println("released")
	return 0
}

// A creator that cannot get the mutex says which mutex it is; a process that dies with
// the mutex blocks no creator.
func TestStoresMutex(t *testing.T) {
	s := Open(t, UniqueName(t), semaphore.EngineWindows)
	keep, err := windows.CreateMutex(nil, false, windows.StringToUTF16Ptr(store.MutexName))
	if keep == 0 {
		t.Fatal(err)
	}
	defer windows.CloseHandle(keep) // so that it is one mutex all the time
	for _, killed := range []bool{true, false, true, true, false} {
		a := StartActorCommand(t, "stores", Helper(t, "stores"))
		if got := a.Answer(); got != "ready" {
			t.Fatal(got)
		}
		old := store.Patience
		store.Patience = time.Millisecond
		err := OpenErr(s.Name() + ".new")
		store.Patience = old
		if err == nil || !strings.Contains(err.Error(), store.MutexName) {
			t.Errorf("got %v, want it to name the mutex", err)
		}
		Must(t, OpenErr(s.Name())) // what exists needs no lock
		if killed {
			Must(t, a.Cmd.Process.Kill())
		} else {
			a.Expect("released", "")
		}
		Must(t, OpenErr(s.Name()+".new"))
	}
}

// A program that takes the mutex, and gives no other process access to it, keeps none
// from creating.
func TestStoresMutexOfAnother(t *testing.T) {
	sd, err := windows.SecurityDescriptorFromString("D:P(D;;GA;;;WD)")
	Must(t, err)
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	h, err := windows.CreateMutex(sa, true, windows.StringToUTF16Ptr(store.MutexName))
	if err != nil {
		t.Fatal("another process has it: ", err)
	}
	defer windows.CloseHandle(h)
	Must(t, OpenErr(UniqueName(t), semaphore.WithExclusive(true)))
}

func TestLocalDirectory(t *testing.T) {
	dir := TempDir(t)
	Must(t, store.CheckLocal(dir))
	Must(t, store.CheckLocal(`\\?\`+dir))
}
