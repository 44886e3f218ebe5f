// Tests of EngineWindows beyond the conformance table: namespaces, other objects of
// the kernel, rights, names that end with their last handle.

package environment_test

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
	. "github.com/procsem/semaphore/internal/testkit"
	"github.com/procsem/semaphore/internal/win"
)

const engineWindows = semaphore.EngineWindows

func TestAutoIsWindows(t *testing.T) {
	if s := Open(t, UniqueName(t), semaphore.EngineAuto); s.Engine() != engineWindows {
		t.Errorf("EngineAuto is %v", s.Engine())
	}
}

// A name without a prefix belongs to the session, and so does one with Local\; the same
// name with Global\ is another semaphore. It is the same for programs in C.
func TestNamespaces(t *testing.T) {
	for _, kind := range Sharing()["windows"] {
		t.Run(kind, func(t *testing.T) {
			name := UniqueName(t)
			plain := Open(t, name, engineWindows, semaphore.WithValue(1))
			global := Open(t, `Global\`+name, engineWindows, semaphore.WithValue(2), semaphore.WithExclusive(true))
			if global.Name() != `Global\`+name {
				t.Errorf("Name %q", global.Name())
			}
			a := StartActor(t, kind)
			a.OK(`open Local\%s`, name)
			a.Expect("ok 1", "value")
			Must(t, plain.Wait())
			a.Expect("ok 0", "value")
			a.OK(`open Global\%s`, name)
			a.Expect("ok 2", "value")
			Must(t, global.Wait())
			a.Expect("ok 1", "value")
			a.Expect("EEXIST", `create Local\%s 1`, name)

			b := StartActor(t, kind)
			b.OK(`create Global\%s.c 3`, name)
			Becomes(t, Open(t, "/Global\\"+name+".c", engineWindows, semaphore.WithCreate(false)), 3)
		})
	}
}

// A name that only this engine can have is opened also where the others have no directory.
func TestNamespacesNeedNoDirectory(t *testing.T) {
	name := UniqueName(t) // first, for what removes it needs the usual directory again
	t.Setenv("SEMAPHORE_DIR", "relative")
	s, err := semaphore.Open(`Local\`+name, semaphore.WithEngine(engineWindows))
	Must(t, err)
	Must(t, s.Close())
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
		Must(t, Open(t, name, engineWindows, semaphore.WithExclusive(true)).Close())
	}
	// The kernel distinguishes upper and lower case.
	name := UniqueName(t)
	Open(t, name+"x", engineWindows)
	Open(t, name+"X", engineWindows, semaphore.WithExclusive(true))
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
			name := UniqueName(t)
			h, err := create(windows.StringToUTF16Ptr(name))
			Must(t, err)
			for what, opts := range map[string][]semaphore.Option{
				"Open":           nil,
				"without create": {semaphore.WithCreate(false)},
				"exclusive":      {semaphore.WithExclusive(true)},
			} {
				_, err := semaphore.Open(name, opts...)
				WantErr(t, what, err, semaphore.ErrKindMismatch)
				if err == nil || !strings.Contains(err.Error(), "another kind of object") {
					t.Errorf("%s: %v", what, err)
				}
			}
			WantErr(t, "Unlink", semaphore.Unlink(name), fs.ErrNotExist)
			Must(t, windows.CloseHandle(h))
			Open(t, name, engineWindows, semaphore.WithExclusive(true))
		})
	}
}

// Without an open handle there is no semaphore: its value is forgotten. Unlink
// removes nothing.
func TestNameGoesWithLastHandle(t *testing.T) {
	name := UniqueName(t)
	s := Open(t, name, engineWindows, semaphore.WithValue(2))
	Must(t, s.Wait())
	Must(t, s.Unlink())
	Must(t, semaphore.Unlink(name))
	_, err := semaphore.Open(name, semaphore.WithExclusive(true))
	WantErr(t, "exclusive Open after Unlink", err, fs.ErrExist)

	// Another process has it open, and is killed.
	a := StartActor(t, "windows")
	a.OK("open %s", name)
	Must(t, s.Close())
	s = Open(t, name, engineWindows, semaphore.WithCreate(false))
	Becomes(t, s, 1)
	Must(t, s.Close())
	Must(t, a.Cmd.Process.Kill())
	a.Cmd.Wait()
	WaitFor(t, "the end of the name", func() bool { return errors.Is(semaphore.Unlink(name), fs.ErrNotExist) })
	WantErr(t, "Unlink of a closed handle", s.Unlink(), fs.ErrNotExist)
	_, err = semaphore.Open(name, semaphore.WithCreate(false))
	WantErr(t, "Open of what has ended", err, fs.ErrNotExist)
	Becomes(t, Open(t, name, engineWindows, semaphore.WithValue(7), semaphore.WithExclusive(true)), 7)
}

// Other programs' semaphores may have a lower maximum.
func TestOverflowOfAnotherMaximum(t *testing.T) {
	name := UniqueName(t)
	h, _, err := win.CreateSemaphore(name, 1, 2, nil)
	Must(t, err)
	defer windows.CloseHandle(h)
	s := Open(t, name, engineWindows)
	Must(t, s.Post())
	err = s.Post()
	WantErr(t, "Post at the maximum", err, semaphore.ErrOverflow)
	WantErr(t, "Post at the maximum", err, windows.ERROR_TOO_MANY_POSTS)
	Becomes(t, s, 2)
}

// While one handle asks for the value without a pause, each TryWait of another handle
// finds the only permit.
func TestValueTakesNoPermit(t *testing.T) {
	name := UniqueName(t)
	s, asking := Open(t, name, engineWindows), Open(t, name, engineWindows)
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
		Must(t, s.TryWait())
		Must(t, s.Post())
	}
	close(stop)
	all.Wait()
}

// A cancelled wait ends at once in the kernel too.
func TestCancelEndsTheWaitInTheKernel(t *testing.T) {
	s := Open(t, UniqueName(t), engineWindows, semaphore.WithValue(0))
	for range 50 {
		ctx, cancel := context.WithCancel(context.Background())
		waiting := Blocked(t, s, func() error { return s.WaitContext(ctx) })
		cancel()
		if err := Result(t, waiting); err != context.Canceled {
			t.Fatal(err)
		}
		WaitFor(t, "no call inside", func() bool { return testhook.Inspect(s).Inside == 0 })
	}
}

// A permit that comes when the wait is cancelled is the waiter's, or can be taken at
// once: a permit that the wait in the kernel took too late is given back.
func TestCancelAgainstPost(t *testing.T) {
	name := UniqueName(t)
	s, poster := Open(t, name, engineWindows, semaphore.WithValue(0)), Open(t, name, engineWindows)
	for i := range 2000 {
		ctx, cancel := context.WithCancel(context.Background())
		waiting := Blocked(t, s, func() error { return s.WaitContext(ctx) })
		for range i % 50 {
			runtime.Gosched() // the server may be on its way to the kernel, or there
		}
		posted := InBackground(poster.Post)
		cancel()
		err := Result(t, waiting)
		Must(t, Result(t, posted))
		if err == context.Canceled {
			err = s.TryWait()
		}
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
	}
	Becomes(t, s, 0)
}

// A waiter that is killed takes no permit with it.
func TestKilledWaiterTakesNothing(t *testing.T) {
	for _, kind := range Sharing()["windows"] {
		t.Run(kind, func(t *testing.T) {
			s := Open(t, UniqueName(t), engineWindows, semaphore.WithValue(0))
			var waiters []*Actor
			for range 4 {
				a := StartActor(t, kind)
				a.OK("open %s", s.Name())
				a.Send("waits 1")
				waiters = append(waiters, a)
			}
			for _, a := range waiters[1:] {
				Must(t, a.Cmd.Process.Kill())
				a.Cmd.Wait()
			}
			Must(t, s.Post())
			if got := waiters[0].Answer(); got != "ok" {
				t.Error(got)
			}
			Must(t, s.Post())
			Must(t, s.TryWait())
			Becomes(t, s, 0)
		})
	}
}

// withDescriptor creates a semaphore with that security descriptor.
func withDescriptor(t *testing.T, sddl string) (name string) {
	t.Helper()
	sd, err := windows.SecurityDescriptorFromString(sddl)
	Must(t, err)
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	name = UniqueName(t)
	h, _, err := win.CreateSemaphore(name, 1, 5, sa)
	Must(t, err)
	t.Cleanup(func() { windows.CloseHandle(h) })
	return name
}

func TestRightsOfWindows(t *testing.T) {
	t.Run("none", func(t *testing.T) {
		name := withDescriptor(t, "D:P(D;;GA;;;WD)")
		for what, err := range map[string]error{
			"Open":           OpenErr(name),
			"without create": OpenErr(name, semaphore.WithCreate(false)),
		} {
			WantErr(t, what, err, fs.ErrPermission)
			WantErr(t, what, err, windows.ERROR_ACCESS_DENIED)
		}
		WantErr(t, "exclusive", OpenErr(name, semaphore.WithExclusive(true)), fs.ErrExist)
		WantErr(t, "Unlink", semaphore.Unlink(name), fs.ErrPermission)
	})
	t.Run("to wait and to release", func(t *testing.T) {
		name := withDescriptor(t, "D:P(A;;0x100002;;;WD)")
		s := Open(t, name, engineWindows)
		Must(t, s.Wait())
		Must(t, s.Post())
		_, err := s.Value()
		WantErr(t, "Value", err, fs.ErrPermission)
	})
	t.Run("to wait", func(t *testing.T) {
		WantErr(t, "Open", OpenErr(withDescriptor(t, "D:P(A;;0x100000;;;WD)")), fs.ErrPermission)
	})
}

// The mode says which users may open a new semaphore; its creator always may.
func TestModeOfWindows(t *testing.T) {
	group, err := windows.GetCurrentProcessToken().GetTokenPrimaryGroup()
	Must(t, err)
	for _, tt := range []struct {
		mode            fs.FileMode
		group, everyone bool
	}{
		{0, false, false}, {0o600, false, false}, {0o644, false, false}, {0o620, false, false},
		{0o660, true, false}, {0o606, false, true}, {0o666, true, true}, {0o777, true, true},
	} {
		t.Run(fmt.Sprintf("%#o", tt.mode), func(t *testing.T) {
			name := UniqueName(t)
			Open(t, name, engineWindows, semaphore.WithMode(tt.mode))
			Must(t, OpenErr(name))
			h, err := win.OpenSemaphore(name, windows.READ_CONTROL)
			Must(t, err)
			defer windows.CloseHandle(h)
			sd, err := windows.GetSecurityInfo(h, windows.SE_KERNEL_OBJECT, windows.DACL_SECURITY_INFORMATION)
			Must(t, err)
			if got := strings.Contains(sd.String(), ";;;"+group.PrimaryGroup.String()+")"); got != tt.group {
				t.Errorf("%v: for the group: %v, want %v", sd, got, tt.group)
			}
			if got := strings.Contains(sd.String(), ";;;WD)"); got != tt.everyone {
				t.Errorf("%v: for everyone: %v, want %v", sd, got, tt.everyone)
			}
			t.Run("another user", func(t *testing.T) {
				allowed := tt.group || tt.everyone
				if !allowed && UnderWine() {
					t.Skip("Wine 8 has one user, whose SID CreateRestrictedToken does not disable")
				}
				asAnotherUser(t, func() {
					if err := OpenErr(name); allowed {
						Must(t, err)
					} else {
						WantErr(t, "Open", err, fs.ErrPermission)
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
	Must(t, windows.OpenProcessToken(windows.CurrentProcess(), windows.TOKEN_ALL_ACCESS, &own))
	defer own.Close()
	user, err := own.GetTokenUser()
	Must(t, err)
	administrators, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	Must(t, err)
	deny := []windows.SIDAndAttributes{{Sid: user.User.Sid}, {Sid: administrators}}
	if r, _, err := createRestrictedToken.Call(uintptr(own), 0, uintptr(len(deny)), uintptr(unsafe.Pointer(&deny[0])), 0, 0, 0, 0, uintptr(unsafe.Pointer(&restricted))); r == 0 {
		t.Fatal("CreateRestrictedToken: ", err)
	}
	defer restricted.Close()
	Must(t, windows.DuplicateTokenEx(restricted, windows.TOKEN_ALL_ACCESS, nil, windows.SecurityImpersonation, windows.TokenImpersonation, &impersonating))
	defer impersonating.Close()

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	Must(t, windows.SetThreadToken(nil, impersonating))
	defer func() { Must(t, windows.RevertToSelf()) }()
	f()
}

var createRestrictedToken = windows.NewLazySystemDLL("advapi32.dll").NewProc("CreateRestrictedToken")

// Openers of one process exclude each other too, though they share threads.
func TestStoresMutexAmongGoroutines(t *testing.T) {
	name := UniqueName(t)
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
	Must(t, (<-won).Close())
}

// Every Open that fails, and every Close, leaves no handle of the system open.
func TestHandlesAreClosed(t *testing.T) {
	name := UniqueName(t)
	keeper := Open(t, name, engineWindows)
	event, err := windows.CreateEvent(nil, 0, 0, windows.StringToUTF16Ptr(name+".event"))
	Must(t, err)
	defer windows.CloseHandle(event)
	denied := withDescriptor(t, "D:P(D;;GA;;;WD)")
	const rounds = 200
	use := func() {
		for range rounds {
			s, err := semaphore.Open(name, semaphore.WithEngine(engineWindows))
			Must(t, err)
			Must(t, s.Wait())
			WantErr(t, "Wait", s.WaitTimeout(time.Microsecond), semaphore.ErrTimeout)
			Must(t, s.Post())
			Must(t, s.Close())
			WantErr(t, "exclusive", OpenErr(name, semaphore.WithExclusive(true)), fs.ErrExist)
			WantErr(t, "another kind", OpenErr(name+".event"), semaphore.ErrKindMismatch)
			WantErr(t, "no right", OpenErr(denied), fs.ErrPermission)
			WantErr(t, "no right, exclusive", OpenErr(denied, semaphore.WithExclusive(true)), fs.ErrExist)
			Must(t, OpenErr(name+".new", semaphore.WithExclusive(true)))
			Must(t, keeper.Unlink())
		}
	}
	use()
	const slack = rounds / 4 // the runtime's threads
	before := HandleCount(t)
	use()
	WaitFor(t, "as few handles as before", func() bool { return HandleCount(t) < before+slack })
}

// Where Wine 8 differs from Windows, so that TestCloseOnExit cannot test it there.
func TestConsole(t *testing.T) {
	UseHelper("exit")
	for _, tt := range []struct{ name, how, wine string }{
		{"Ctrl-Break", "idle", "Wine 8 cannot send Ctrl-Break: TestCloseOnExit sends Ctrl-C there"},
		{"status", "plain", "Wine 8 ends a program that does not handle Ctrl-C with status 0, Windows with 0xC000013A"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if UnderWine() {
				t.Skip(tt.wine)
			}
			s := Open(t, UniqueName(t), engineWindows, semaphore.WithValue(5))
			end(t, startEndable(t, s, engineWindows, tt.how), exit{tt.how, syscall.SIGINT, 0})
		})
	}
}
