//go:build unix

package command

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// becomeClient replaces procsem with the program for a store, found beside it or in PATH, with the same arguments.
func becomeClient(program string, args []string) error {
	var path string
	if own, err := os.Executable(); err == nil {
		if path, err = exec.LookPath(filepath.Join(filepath.Dir(own), program)); err != nil {
			path = ""
		}
	}
	if path == "" {
		found := programCommand(program)
		if found.Err != nil || !filepath.IsAbs(found.Path) {
			return noClient(program) // what is in the working directory, by a "." in PATH, anybody may have put there
		}
		path = found.Path
	}
	err := syscall.Exec(path, append([]string{os.Args[0]}, args...), os.Environ())
	return &failure{statusUnavailable, fmt.Errorf("%s: %w", path, err)}
}

// noClient is the error if the program for a store is not found.
func noClient(program string) error {
	return &failure{statusUnavailable, fmt.Errorf("a store is used by %s, which is neither beside procsem nor in PATH; to install it: go install github.com/procsem/semaphore/etcd/cmd/%[1]s@latest", program)}
}
