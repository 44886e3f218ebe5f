// What EngineWindows has beyond the conformance table: namespaces, other objects of
// the kernel, rights, names that end with their last handle.

package semaphore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
	"github.com/procsem/semaphore/internal/win"
)

const engineWindows = semaphore.EngineWindows

func TestAutoIsWindows(t *testing.T) {
	if s := open(t, uniqueName(t), semaphore.EngineAuto); s.Engine() != engineWindows {
		t.Errorf("EngineAuto is %v", s.Engine())
	}
}

// A name without a prefix is the session's, and so is one with Local\; what is
// Global\ is another semaphore. C says so too.
func TestNamespaces(t *testing.T) {
	for _, kind := range sharing()["windows"] {
		t.Run(kind, func(t *testing.T) {
			name := uniqueName(t)
			plain := open(t, name, engineWindows, semaphore.WithValue(1))
			global := open(t, `Global\`+name, engineWindows, semaphore.WithValue(2), semaphore.WithExclusive(true))
			if global.Name() != `Global\`+name {
				t.Errorf("Name %q", global.Name())
			}
			a := startActor(t, kind)
			a.ok(`open Local\%s`, name)
			a.expect("ok 1", "value")
			must(t, plain.Wait())
			a.expect("ok 0", "value")
			a.ok(`open Global\%s`, name)
			a.expect("ok 2", "value")
			must(t, global.Wait())
			a.expect("ok 1", "value")
			a.expect("EEXIST", `create Local\%s 1`, name)

			b := startActor(t, kind)
			b.ok(`create Global\%s.c 3`, name)
			becomes(t, open(t, "/Global\\"+name+".c", engineWindows, semaphore.WithCreate(false)), 3)
		})
	}
}

func TestNamesOfWindows(t *testing.T) {
	for name, rule := range map[string]string{
		`a\b`:                                "backslash",
		`Session\1\a`:                        "backslash",
		`global\a`:                           "backslash",
		`Global\a\b`:                         "backslash",
		`\a`:                                 "backslash",
		`Global\`:                            "empty",
		`/Local\`:                            "empty",
		`Local\..`:                           "directory",
		`Global\a/b`:                         "slash",
		"a\xff":                              "UTF-8",
		strings.Repeat("𝄞", 130):             "260 UTF-16 units; at most 259",
		`Global\` + strings.Repeat("n", 253): "260 UTF-16 units",
	} {
		err := semaphore.CheckName(name)
		if !errors.Is(err, semaphore.ErrInvalidName) || !strings.Contains(err.Error(), rule) {
			t.Errorf("CheckName(%.20q): %v, want it to speak of %q", name, err, rule)
		}
	}
	for _, name := range []string{strings.Repeat("𝄞", 129) + "n", `Global\` + strings.Repeat("n", 252)} {
		must(t, open(t, name, engineWindows, semaphore.WithExclusive(true)).Close())
	}
	// The kernel tells upper from lower case.
	name := uniqueName(t)
	open(t, name+"x", engineWindows)
	open(t, name+"X", engineWindows, semaphore.WithExclusive(true))
}

// The kernel's objects share their names: an event, say, is no semaphore.
func TestNameOfAnotherKindOfObject(t *testing.T) {
	for kind, create := range map[string]func(name *uint16) (windows.Handle, error){
		"event": func(name *uint16) (windows.Handle, error) { return windows.CreateEvent(nil, 0, 0, name) },
		"mutex": func(name *uint16) (windows.Handle, error) { return windows.CreateMutex(nil, false, name) },
		"file mapping": func(name *uint16) (windows.Handle, error) {
			return windows.CreateFileMapping(windows.InvalidHandle, nil, windows.PAGE_READWRITE, 0, 4096, name)
		},
		"job": func(name *uint16) (windows.Handle, error) { return windows.CreateJobObject(nil, name) },
	} {
		t.Run(kind, func(t *testing.T) {
			name := uniqueName(t)
			h, err := create(windows.StringToUTF16Ptr(name))
			must(t, err)
			for what, opts := range map[string][]semaphore.Option{
				"Open":           nil,
				"without create": {semaphore.WithCreate(false)},
				"exclusive":      {semaphore.WithExclusive(true)},
			} {
				_, err := semaphore.Open(name, opts...)
				wantErr(t, what, err, semaphore.ErrKindMismatch)
				if err == nil || !strings.Contains(err.Error(), "another kind of object") {
					t.Errorf("%s: %v", what, err)
				}
			}
			wantErr(t, "Unlink", semaphore.Unlink(name), fs.ErrNotExist)
			must(t, windows.CloseHandle(h))
			open(t, name, engineWindows, semaphore.WithExclusive(true))
		})
	}
}

// Without an open handle there is no semaphore: its value is forgotten. Unlink
// removes nothing.
func TestNameGoesWithLastHandle(t *testing.T) {
	name := uniqueName(t)
	s := open(t, name, engineWindows, semaphore.WithValue(2))
	must(t, s.Wait())
	must(t, s.Unlink())
	must(t, semaphore.Unlink(name))
	_, err := semaphore.Open(name, semaphore.WithExclusive(true))
	wantErr(t, "exclusive Open after Unlink", err, fs.ErrExist)

	// Another process has it open, and is killed.
	a := startActor(t, "windows")
	a.ok("open %s", name)
	must(t, s.Close())
	s = open(t, name, engineWindows, semaphore.WithCreate(false))
	becomes(t, s, 1)
	must(t, s.Close())
	must(t, a.cmd.Process.Kill())
	a.cmd.Wait()
	waitFor(t, "the end of the name", func() bool { return errors.Is(semaphore.Unlink(name), fs.ErrNotExist) })
	wantErr(t, "Unlink of a closed handle", s.Unlink(), fs.ErrNotExist)
	_, err = semaphore.Open(name, semaphore.WithCreate(false))
	wantErr(t, "Open of what has ended", err, fs.ErrNotExist)
	becomes(t, open(t, name, engineWindows, semaphore.WithValue(7), semaphore.WithExclusive(true)), 7)
}

// Other programs' semaphores may have a lower maximum.
func TestOverflowOfAnotherMaximum(t *testing.T) {
	name := uniqueName(t)
	h, _, err := win.CreateSemaphore(name, 1, 2, nil)
	must(t, err)
	defer windows.CloseHandle(h)
	s := open(t, name, engineWindows)
	must(t, s.Post())
	err = s.Post()
	wantErr(t, "Post at the maximum", err, semaphore.ErrOverflow)
	wantErr(t, "Post at the maximum", err, windows.ERROR_TOO_MANY_POSTS)
	becomes(t, s, 2)
}

// While one handle asks for the value without a pause, each try of another finds
// the only permit.
func TestValueTakesNoPermit(t *testing.T) {
	name := uniqueName(t)
	s, asking := open(t, name, engineWindows), open(t, name, engineWindows)
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if n, err := asking.Value(); err != nil || n < 0 || n > 1 {
					t.Errorf("Value %d, %v", n, err)
					return
				}
			}
		})
	}
	for range 5000 {
		must(t, s.TryWait())
		must(t, s.Post())
	}
	close(stop)
	all.Wait()
}

// A cancelled wait leaves the kernel too, at once.
func TestCancelEndsTheWaitInTheKernel(t *testing.T) {
	s := open(t, uniqueName(t), engineWindows, semaphore.WithValue(0))
	for range 50 {
		ctx, cancel := context.WithCancel(context.Background())
		waiting := blocked(t, s, func() error { return s.WaitContext(ctx) })
		cancel()
		if err := result(t, waiting); err != context.Canceled {
			t.Fatal(err)
		}
		waitFor(t, "nobody inside", func() bool { return testhook.Inspect(s).Inside == 0 })
	}
}

// A permit that comes at the moment of the cancelling is the waiter's, or can be had
// at once: what the wait in the kernel has taken for nobody is given back.
func TestCancelAgainstPost(t *testing.T) {
	name := uniqueName(t)
	s, poster := open(t, name, engineWindows, semaphore.WithValue(0)), open(t, name, engineWindows)
	for i := range 2000 {
		ctx, cancel := context.WithCancel(context.Background())
		waiting := blocked(t, s, func() error { return s.WaitContext(ctx) })
		for range i % 50 {
			runtime.Gosched() // the server may be on its way to the kernel, or there
		}
		posted := inBackground(poster.Post)
		cancel()
		err := result(t, waiting)
		must(t, result(t, posted))
		if err == context.Canceled {
			err = s.TryWait()
		}
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
	}
	becomes(t, s, 0)
}

// A waiter that is killed takes no permit along.
func TestKilledWaiterTakesNothing(t *testing.T) {
	for _, kind := range sharing()["windows"] {
		t.Run(kind, func(t *testing.T) {
			s := open(t, uniqueName(t), engineWindows, semaphore.WithValue(0))
			var waiters []*actor
			for range 4 {
				a := startActor(t, kind)
				a.ok("open %s", s.Name())
				a.send("waits 1")
				waiters = append(waiters, a)
			}
			for _, a := range waiters[1:] {
				must(t, a.cmd.Process.Kill())
				a.cmd.Wait()
			}
			must(t, s.Post())
			if got := waiters[0].answer(); got != "ok" {
				t.Error(got)
			}
			must(t, s.Post())
			must(t, s.TryWait())
			becomes(t, s, 0)
		})
	}
}

// withDescriptor creates a semaphore with that security descriptor.
func withDescriptor(t *testing.T, sddl string) (name string) {
	t.Helper()
	sd, err := windows.SecurityDescriptorFromString(sddl)
	must(t, err)
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	name = uniqueName(t)
	h, _, err := win.CreateSemaphore(name, 1, 5, sa)
	must(t, err)
	t.Cleanup(func() { windows.CloseHandle(h) })
	return name
}

func TestRightsOfWindows(t *testing.T) {
	t.Run("none", func(t *testing.T) {
		name := withDescriptor(t, "D:P(D;;GA;;;WD)")
		for what, err := range map[string]error{
			"Open":           openErr(name),
			"without create": openErr(name, semaphore.WithCreate(false)),
		} {
			wantErr(t, what, err, fs.ErrPermission)
			wantErr(t, what, err, windows.ERROR_ACCESS_DENIED)
		}
		wantErr(t, "exclusive", openErr(name, semaphore.WithExclusive(true)), fs.ErrExist)
		wantErr(t, "Unlink", semaphore.Unlink(name), fs.ErrPermission)
	})
	t.Run("to wait and to release", func(t *testing.T) {
		name := withDescriptor(t, "D:P(A;;0x100002;;;WD)")
		s := open(t, name, engineWindows)
		must(t, s.Wait())
		must(t, s.Post())
		_, err := s.Value()
		wantErr(t, "Value", err, fs.ErrPermission)
	})
	t.Run("to wait", func(t *testing.T) {
		wantErr(t, "Open", openErr(withDescriptor(t, "D:P(A;;0x100000;;;WD)")), fs.ErrPermission)
	})
}

func openErr(name string, opts ...semaphore.Option) error {
	s, err := semaphore.Open(name, append(opts, semaphore.WithEngine(engineWindows))...)
	if err == nil {
		s.Close()
	}
	return err
}

// The mode says who may use what is created, its creator in any case.
func TestModeOfWindows(t *testing.T) {
	group, err := windows.GetCurrentProcessToken().GetTokenPrimaryGroup()
	must(t, err)
	for _, tt := range []struct {
		mode            fs.FileMode
		group, everyone bool
	}{
		{0, false, false}, {0o600, false, false}, {0o644, false, false}, {0o620, false, false},
		{0o660, true, false}, {0o606, false, true}, {0o666, true, true}, {0o777, true, true},
	} {
		t.Run(fmt.Sprintf("%#o", tt.mode), func(t *testing.T) {
			name := uniqueName(t)
			open(t, name, engineWindows, semaphore.WithMode(tt.mode))
			must(t, openErr(name))
			h, err := win.OpenSemaphore(name, windows.READ_CONTROL)
			must(t, err)
			defer windows.CloseHandle(h)
			sd, err := windows.GetSecurityInfo(h, windows.SE_KERNEL_OBJECT, windows.DACL_SECURITY_INFORMATION)
			must(t, err)
			if got := strings.Contains(sd.String(), ";;;"+group.PrimaryGroup.String()+")"); got != tt.group {
				t.Errorf("%v: for the group: %v, want %v", sd, got, tt.group)
			}
			if got := strings.Contains(sd.String(), ";;;WD)"); got != tt.everyone {
				t.Errorf("%v: for everyone: %v, want %v", sd, got, tt.everyone)
			}
			t.Run("another user", func(t *testing.T) {
				allowed := tt.group || tt.everyone
				if !allowed && underWine() {
					t.Skip("Wine 8 has one user, whose SID CreateRestrictedToken does not disable")
				}
				asAnotherUser(t, func() {
					if err := openErr(name); allowed {
						must(t, err)
					} else {
						wantErr(t, "Open", err, fs.ErrPermission)
					}
				})
			})
		})
	}
}

// asAnotherUser calls f in a thread whose token has this user's SID, and that of
// administrators, for denials only.
func asAnotherUser(t *testing.T, f func()) {
	t.Helper()
	var own, restricted, impersonating windows.Token
	must(t, windows.OpenProcessToken(windows.CurrentProcess(), windows.TOKEN_ALL_ACCESS, &own))
	defer own.Close()
	user, err := own.GetTokenUser()
	must(t, err)
	administrators, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	must(t, err)
	deny := []windows.SIDAndAttributes{{Sid: user.User.Sid}, {Sid: administrators}}
	if r, _, err := createRestrictedToken.Call(uintptr(own), 0, uintptr(len(deny)), uintptr(unsafe.Pointer(&deny[0])), 0, 0, 0, 0, uintptr(unsafe.Pointer(&restricted))); r == 0 {
		t.Fatal("CreateRestrictedToken: ", err)
	}
	defer restricted.Close()
	must(t, windows.DuplicateTokenEx(restricted, windows.TOKEN_ALL_ACCESS, nil, windows.SecurityImpersonation, windows.TokenImpersonation, &impersonating))
	defer impersonating.Close()

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	must(t, windows.SetThreadToken(nil, impersonating))
	defer func() { must(t, windows.RevertToSelf()) }()
	f()
}

var createRestrictedToken = windows.NewLazySystemDLL("advapi32.dll").NewProc("CreateRestrictedToken")

// storesMain holds the mutex under which semaphores are created, until it is told to
// give it back, or killed.
func storesMain([]string) int {
	runtime.LockOSThread()
	h, err := windows.CreateMutex(nil, false, windows.StringToUTF16Ptr(semaphore.StoresMutex))
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

// The mutex under which semaphores are created: who holds it for too long is told of,
// who dies with it holds up nobody.
func TestStoresMutex(t *testing.T) {
	s := open(t, uniqueName(t), engineWindows)
	keep, err := windows.CreateMutex(nil, false, windows.StringToUTF16Ptr(semaphore.StoresMutex))
	if keep == 0 {
		t.Fatal(err)
	}
	defer windows.CloseHandle(keep) // so that it is one mutex all the time
	for _, killed := range []bool{true, false, true, true, false} {
		a := startActorCommand(t, "stores", helper(t, "stores"))
		if got := a.answer(); got != "ready" {
			t.Fatal(got)
		}
		old := *semaphore.StoresPatience
		*semaphore.StoresPatience = time.Millisecond
		err := openErr(s.Name() + ".new")
		*semaphore.StoresPatience = old
		if err == nil || !strings.Contains(err.Error(), semaphore.StoresMutex) {
			t.Errorf("got %v, want it to name the mutex", err)
		}
		must(t, openErr(s.Name())) // what exists needs no lock
		if killed {
			must(t, a.cmd.Process.Kill())
		} else {
			a.expect("released", "")
		}
		must(t, openErr(s.Name()+".new"))
	}
}

// Nobody who takes the mutex for himself keeps others from creating.
func TestStoresMutexOfAnother(t *testing.T) {
	sd, err := windows.SecurityDescriptorFromString("D:P(D;;GA;;;WD)")
	must(t, err)
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	h, err := windows.CreateMutex(sa, true, windows.StringToUTF16Ptr(semaphore.StoresMutex))
	if err != nil {
		t.Fatal("somebody else has it: ", err)
	}
	defer windows.CloseHandle(h)
	must(t, openErr(uniqueName(t), semaphore.WithExclusive(true)))
}

// Openers of one process exclude each other too, though they take turns on threads.
func TestStoresMutexAmongGoroutines(t *testing.T) {
	name := uniqueName(t)
	var all sync.WaitGroup
	won := make(chan *semaphore.Semaphore, 40)
	for range cap(won) {
		all.Go(func() {
			switch s, err := semaphore.Open(name, semaphore.WithExclusive(true)); {
			case err == nil:
				won <- s
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(won) != 1 {
		t.Fatalf("%d of %d have created it", len(won), cap(won))
	}
	must(t, (<-won).Close())
}

// handleCount returns how many handles this process has, or some more. Wine does not
// count them, but gives new ones the lowest free numbers.
func handleCount(t *testing.T) (n uint32) {
	t.Helper()
	if underWine() {
		const holes = 100 // that may be left by those that were closed
		for range holes {
			h, err := windows.CreateEvent(nil, 0, 0, nil)
			must(t, err)
			defer windows.CloseHandle(h)
			n = max(n, uint32(h)/4)
		}
		return n
	}
	if r, _, err := getProcessHandleCount.Call(uintptr(windows.CurrentProcess()), uintptr(unsafe.Pointer(&n))); r == 0 {
		t.Fatal("GetProcessHandleCount: ", err)
	}
	return n
}

var getProcessHandleCount = kernel32.NewProc("GetProcessHandleCount")

// Whatever became of them, no handle stays open.
func TestHandlesAreClosed(t *testing.T) {
	name := uniqueName(t)
	keeper := open(t, name, engineWindows)
	event, err := windows.CreateEvent(nil, 0, 0, windows.StringToUTF16Ptr(name+".event"))
	must(t, err)
	defer windows.CloseHandle(event)
	denied := withDescriptor(t, "D:P(D;;GA;;;WD)")
	const rounds = 200
	use := func() {
		for range rounds {
			s, err := semaphore.Open(name, semaphore.WithEngine(engineWindows))
			must(t, err)
			must(t, s.Wait())
			wantErr(t, "Wait", s.WaitTimeout(time.Microsecond), semaphore.ErrTimeout)
			must(t, s.Post())
			must(t, s.Close())
			wantErr(t, "exclusive", openErr(name, semaphore.WithExclusive(true)), fs.ErrExist)
			wantErr(t, "another kind", openErr(name+".event"), semaphore.ErrKindMismatch)
			wantErr(t, "no right", openErr(denied), fs.ErrPermission)
			wantErr(t, "no right, exclusive", openErr(denied, semaphore.WithExclusive(true)), fs.ErrExist)
			must(t, openErr(name+".new", semaphore.WithExclusive(true)))
			must(t, keeper.Unlink())
		}
	}
	use()
	const slack = rounds / 4 // the runtime's threads
	before := handleCount(t)
	use()
	waitFor(t, "as few handles as before", func() bool { return handleCount(t) < before+slack })
}

// What Wine 8 does otherwise than Windows, and TestCloseOnExit therefore too.
func TestConsole(t *testing.T) {
	useHelper("exit")
	for _, tt := range []struct{ name, how, wine string }{
		{"Ctrl-Break", "idle", "Wine 8 cannot send Ctrl-Break: TestCloseOnExit sends Ctrl-C there"},
		{"status", "plain", "Wine 8 ends a program that does not handle Ctrl-C with status 0, Windows with 0xC000013A"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if underWine() {
				t.Skip(tt.wine)
			}
			s := open(t, uniqueName(t), engineWindows, semaphore.WithValue(5))
			a := startActorCommand(t, "exit", endable(helper(t, "exit", s.Name(), fmt.Sprint(int(engineWindows)), tt.how, "")))
			if got := a.answer(); got != "ready" {
				t.Fatal(got)
			}
			end(t, a, exit{tt.how, syscall.SIGINT, 0})
		})
	}
}
