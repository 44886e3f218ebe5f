// Package win provides what golang.org/x/sys/windows lacks: named semaphores, and
// security descriptors that correspond to permission bits.
package win

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	kernel32         = windows.NewLazySystemDLL("kernel32.dll")
	createSemaphoreW = kernel32.NewProc("CreateSemaphoreW")
	openSemaphoreW   = kernel32.NewProc("OpenSemaphoreW")
	releaseSemaphore = kernel32.NewProc("ReleaseSemaphore")
	ntQuerySemaphore = windows.NewLazySystemDLL("ntdll.dll").NewProc("NtQuerySemaphore")
)

const (
	SemaphoreModifyState = 2 // to release
	SemaphoreQueryState  = 1

	// SemaphoreAccess are the rights needed to use a semaphore: to wait, to release and
	// to query its count.
	SemaphoreAccess = windows.SYNCHRONIZE | SemaphoreModifyState | SemaphoreQueryState
)

// CreateSemaphore creates a semaphore, or opens the one of that name; existed says which.
// If the name is that of another kind of object, it returns ERROR_INVALID_HANDLE.
func CreateSemaphore(name string, initial, most int32, sa *windows.SecurityAttributes) (h windows.Handle, existed bool, err error) {
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, false, err
	}
	r, _, errno := syscall.SyscallN(createSemaphoreW.Addr(), uintptr(unsafe.Pointer(sa)), uintptr(initial), uintptr(most), uintptr(unsafe.Pointer(p)))
	if r == 0 {
		return 0, false, os.NewSyscallError("CreateSemaphore", errno)
	}
	return windows.Handle(r), errno == windows.ERROR_ALREADY_EXISTS, nil
}

// OpenSemaphore opens an existing semaphore. If there is none, it returns
// ERROR_FILE_NOT_FOUND.
func OpenSemaphore(name string, access uint32) (windows.Handle, error) {
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	r, _, errno := syscall.SyscallN(openSemaphoreW.Addr(), uintptr(access), 0, uintptr(unsafe.Pointer(p)))
	if r == 0 {
		return 0, os.NewSyscallError("OpenSemaphore", errno)
	}
	return windows.Handle(r), nil
}

// ReleaseSemaphore adds n to a semaphore's count and returns what it was before. If the
// sum would exceed the greatest count, it adds nothing and returns ERROR_TOO_MANY_POSTS.
func ReleaseSemaphore(h windows.Handle, n int32) (before int32, err error) {
	r, _, errno := syscall.SyscallN(releaseSemaphore.Addr(), uintptr(h), uintptr(n), uintptr(unsafe.Pointer(&before)))
	if r == 0 {
		return 0, os.NewSyscallError("ReleaseSemaphore", errno)
	}
	return before, nil
}

// QuerySemaphore returns a semaphore's count and its greatest count, without changing
// it. It needs a call that Microsoft does not document: where that is missing it returns
// errors.ErrUnsupported.
func QuerySemaphore(h windows.Handle) (count, most int32, err error) {
	var info struct{ count, most int32 } // SEMAPHORE_BASIC_INFORMATION
	if err := ntQuerySemaphore.Find(); err != nil {
		return 0, 0, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	r, _, _ := syscall.SyscallN(ntQuerySemaphore.Addr(), uintptr(h), 0, uintptr(unsafe.Pointer(&info)), unsafe.Sizeof(info), 0)
	if r != 0 {
		return 0, 0, os.NewSyscallError("NtQuerySemaphore", windows.NTStatus(r).Errno())
	}
	return info.count, info.most, nil
}

// SecurityOf returns the security descriptor that corresponds to permission bits, for an
// object or a file that this process creates. Its user, the system and administrators may
// always use it; the process's primary group, and everybody, if their bits allow reading
// and writing, which using a semaphore needs.
func SecurityOf(mode fs.FileMode) (*windows.SecurityAttributes, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, os.NewSyscallError("GetTokenInformation", err)
	}
	sddl := fmt.Sprintf("O:%vD:P(A;;GA;;;%[1]v)(A;;GA;;;SY)(A;;GA;;;BA)", user.User.Sid)
	if mode&0o060 == 0o060 {
		group, err := windows.GetCurrentProcessToken().GetTokenPrimaryGroup()
		if err != nil {
			return nil, os.NewSyscallError("GetTokenInformation", err)
		}
		sddl += fmt.Sprintf("(A;;GRGWGX;;;%v)", group.PrimaryGroup)
	}
	if mode&0o006 == 0o006 {
		sddl += "(A;;GRGWGX;;;WD)"
	}
	sd, err := windows.SecurityDescriptorFromString(sddl)
	if err != nil {
		return nil, os.NewSyscallError("ConvertStringSecurityDescriptorToSecurityDescriptor", err)
	}
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	return sa, nil
}
