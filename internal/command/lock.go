package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/names"
	"github.com/spf13/cobra"
)

const pathHelp = `Creates the recoverable semaphore NAME if it does not exist, and prints the path of
its file, for a descriptor by which "procsem lock" gives permits to a shell script.
LIMIT and mode are those of "procsem run".`

const lockHelp = `Takes a permit of a recoverable semaphore for the process that has its file open as
descriptor FD, a shell script mostly:

   exec 9<>"$(procsem path build)"
   procsem lock --fd 9 build || exit
   make
   procsem unlock --fd 9 build

The permit belongs to that open file. It comes back by unlock, or when the last copy of
the descriptor is closed, however that happens: by "exec 9>&-", or because the script
has ended or was killed by SIGKILL, and with it all commands that have inherited the
descriptor ("make 9>&-" does not inherit it). In that case it may take a second
until a waiter has noticed. One open file takes one permit of a semaphore at a time.

-w, -E, -n, -v and -q are those of "procsem run". A signal that ends the wait leaves
nothing taken. A permit that is held by what runs the script is not waited for (70; see
"procsem run --help"). If procsem is killed by SIGKILL, the permit may have been taken:
unlock gives it back.

On Linux only, and not where locks are files (docs/platforms.md): it takes locks that
belong to an open file.

` + statusHelp

const unlockHelp = `Gives back what "procsem lock --fd FD NAME" has taken. If nothing is taken through
that descriptor, that is an error (71).`

func lockCommands(inv *invocation) []*cobra.Command {
	path := &cobra.Command{Use: "path [options] NAME", Short: "print the path of a recoverable semaphore's file, for lock", Long: pathHelp, RunE: inv.path}
	limit(path, "", "of a new semaphore, `N` permits (default: 1)")
	mode(path)
	lock := &cobra.Command{Use: "lock --fd FD [options] NAME", Short: "take a permit for a shell script that has the file open", Long: lockHelp, RunE: inv.lock}
	descriptor(lock)
	limit(lock, "", "at most `N` at a time (default: the limit that exists)")
	timeout(lock)
	conflictStatus(lock)
	speech(lock)
	mode(lock)
	unlock := &cobra.Command{Use: "unlock --fd FD NAME", Short: "give back what lock has taken", Long: unlockHelp, RunE: inv.unlock}
	descriptor(unlock)
	return []*cobra.Command{path, lock, unlock}
}

func descriptor(cmd *cobra.Command) {
	cmd.Flags().String(fdFlag, "", "the descriptor `FD` by which the caller has the semaphore's file open")
}

func (inv *invocation) path(cmd *cobra.Command, args []string) error {
	name, err := oneName(cmd, args)
	if err != nil {
		return err
	}
	o, err := openerOf(cmd, name, 1)
	if err != nil {
		return err
	}
	s, _, err := o.open()
	switch {
	case err == nil:
		s.Close()
	case !errors.Is(err, semaphore.ErrTableFull): // then it exists
		return err
	}
	path, err := pathOf(name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(inv.stdout, path)
	return err
}

// pathOf returns the path of a recoverable semaphore's file.
func pathOf(name string) (string, error) {
	dir, err := storeDir()
	return filepath.Join(dir, names.FileName(names.Recoverable, name)), err
}

// A handed is a semaphore's open file that the caller of procsem has, and that holds permits or is to
// hold one.
type handed struct {
	name string
	fd   int
	file *os.File
}

// handedOf returns the file of the flag --fd. It is called before procsem opens any file, which
// might get the number of a descriptor that the caller does not have.
func handedOf(cmd *cobra.Command, args []string) (h handed, err error) {
	if h.name, err = oneName(cmd, args); err != nil {
		return h, err
	}
	given := text(cmd, fdFlag)
	if given == "" {
		return h, usageError(cmd.CommandPath(), "--fd is missing: the descriptor by which the semaphore's file is open (%s)", h.remedy())
	}
	if h.fd, err = strconv.Atoi(given); err != nil || h.fd < 0 || h.fd > 1<<20 {
		return h, usageError(cmd.CommandPath(), "--fd %q: the number of an open descriptor is allowed", given)
	}
	path, err := pathOf(h.name)
	if err != nil {
		return h, err
	}
	h.file = os.NewFile(uintptr(h.fd), path)
	if h.file == nil {
		return h, usageError(cmd.CommandPath(), "descriptor %d is not open; %s", h.fd, h.remedy())
	}
	info, err := h.file.Stat()
	if err != nil {
		return h, usageError(cmd.CommandPath(), "descriptor %d is not open; %s", h.fd, h.remedy())
	}
	if named, err := os.Stat(path); err != nil || !os.SameFile(info, named) {
		return h, &failure{statusDataErr, fmt.Errorf("descriptor %d is not the file of %q, or was opened before that was removed; %s", h.fd, h.name, h.remedy())}
	}
	return h, nil
}

// remedy says how to open the file.
func (h handed) remedy() string {
	fd := h.fd
	if fd < 3 {
		fd = 9
	}
	return fmt.Sprintf(`in the shell: exec %d<>"$(%s path %s)"`, fd, toType(), h.name)
}

// permits returns how many permits the file holds, and gives them back if back is set.
func (h handed) permits(back bool) (int, error) {
	eng := registered(semaphore.EngineRecoverable)
	if eng == nil {
		return 0, &failure{statusUnavailable, errors.New("recoverable semaphores are not in this build")}
	}
	n, err := eng.Handed(h.name, h.file, back, &engine.Options{Dir: directory})
	if err != nil {
		err = &semaphore.Error{Op: "handed", Name: h.name, Err: err}
	}
	return n, err
}

func (inv *invocation) lock(cmd *cobra.Command, args []string) error {
	h, err := handedOf(cmd, args)
	if err != nil {
		return err
	}
	o, err := openerOf(cmd, h.name, 1)
	if err != nil {
		return err
	}
	p, err := patienceOf(cmd)
	if err != nil {
		return err
	}
	// It would wait for itself.
	if n, err := h.permits(false); err != nil {
		return err
	} else if n > 0 {
		return usageError(cmd.CommandPath(), "descriptor %d has a permit of %q already; %s unlock --fd %d %s gives it back", h.fd, h.name, toType(), h.fd, h.name)
	}
	w := watch(endSignals)
	t := inv.speak(cmd, h.name, 1, waitScene)
	defer t.end()
	s, _, p, err := openPatiently(o, p, w, t)
	if err != nil {
		return err
	}
	defer s.Close()
	if o.limited {
		inv.noticeLimit(s, false, o.limit, fmt.Sprint("-n ", o.limit))
	}
	if p.limit != 0 {
		if err := selfDeadlock(s, 1); err != nil {
			return err
		}
	}
	permit, err := take(s, 1, p, w)
	if err != nil {
		return err
	}
	return engine.HandTo(permit, h.file, os.Getppid()) // if that fails Close gives it back
}

func (inv *invocation) unlock(cmd *cobra.Command, args []string) error {
	h, err := handedOf(cmd, args)
	if err != nil {
		return err
	}
	n, err := h.permits(true)
	if err == nil && n == 0 {
		err = fmt.Errorf("descriptor %d has no permit of %q", h.fd, h.name)
	}
	return err
}
