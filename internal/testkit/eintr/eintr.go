//go:build cgo && unix

// Package eintr lets tests interrupt system calls: it installs a C signal
// handler without SA_RESTART. (cgo is not allowed in _test.go files.)
package eintr

/*
#include <signal.h>
#include <stddef.h>
#include <string.h>

static volatile sig_atomic_t handled;

static void count(int sig) { (void)sig; handled++; }

static int install(int sig)
{
	struct sigaction sa;
	memset(&sa, 0, sizeof sa);
	sa.sa_handler = count;
	sa.sa_flags = SA_ONSTACK; // Go's rule for foreign handlers
	return sigaction(sig, &sa, NULL);
}

static int handled_so_far(void) { return handled; }
*/
import "C"

import "syscall"

// Install makes sig interrupt system calls, for the rest of the process.
func Install(sig syscall.Signal) error {
	_, err := C.install(C.int(sig))
	return err
}

// Handled returns how many signals the handler has seen.
func Handled() int { return int(C.handled_so_far()) }
