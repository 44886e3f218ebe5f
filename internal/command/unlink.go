package command

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/names"
	"github.com/spf13/cobra"
)

const unlinkHelp = `Removes names. Those who have the semaphore open would go on with it, and the next run
or create makes a new one beside it, so that up to twice the limit runs. So the name
of a semaphore that is in use is not removed: unlink says who holds it, and exits with
75. With -f it is removed all the same.

A recoverable semaphore is in use while any process has it open, whether it holds a
permit, waits, or neither. Nobody can open it between the look and the removal. A
POSIX semaphore is in use while a process has its file mapped or open, as far as such
processes can be seen: on Linux, and root sees more than others do. Who opens it just
then is not seen.

Of several NAMEs each is removed that can be; the status is that of the first that
could not. With --idle the names of all recoverable semaphores are removed that nobody
has open and that the caller may remove, and printed. POSIX semaphores stay: scripts
use them by "procsem wait" and "procsem post" with nobody having them open in between.
A limit that "procsem resize" has set, a mode, and the time of the last start of "run
--every" are gone with the name: the next start is at once. By root, --idle also removes
what "create --from" has made at boot; the next user of such a name then makes it with an
owner and mode of its own, so run "create --from" again ("systemctl reload procsem").

On Windows the name of a POSIX semaphore cannot be removed while a process has it
open, and is gone by itself after that.`

func (inv *invocation) unlink(cmd *cobra.Command, args []string) error {
	force := isSet(cmd, forceFlag)
	if isSet(cmd, idleFlag) {
		if len(args) > 0 || force {
			return usageError(cmd.CommandPath(), "--idle is instead of NAMEs and -f: it removes all that nobody uses")
		}
		if cluster != nil {
			return inv.unlinkStoredIdle()
		}
		return inv.unlinkIdle(cmd)
	}
	if len(args) == 0 {
		return usageError(cmd.CommandPath(), "the NAME of a semaphore is missing, or --idle")
	}
	wanted := make([]string, len(args))
	for i, arg := range args {
		var err error
		if wanted[i], err = nameIn(cmd, arg); err != nil {
			return err // before any is removed
		}
	}
	return inv.each(wanted, func(name string) error { return unlinkName(name, force) })
}

// each does something with all names, and reports each error. It returns the first one, for its status.
func (inv *invocation) each(all []string, do func(name string) error) (first error) {
	for _, name := range all {
		err := blameDirectory(do(name))
		if err == nil {
			continue
		}
		if len(all) == 1 {
			return err
		}
		if status := report(err, inv.stderr); first == nil {
			first = commandStatus(status)
		}
	}
	return first
}

// unlinkName removes a name of whatever kind. What is in use stays, unless force is set.
func unlinkName(name string, force bool) error {
	if cluster != nil {
		return unlinkStored(name)
	}
	if !posixLasts {
		if s, err := openExistingPOSIX(name); err == nil {
			s.Close()
			return &failure{statusUnavailable, fmt.Errorf("%q is a POSIX semaphore: on %s it is gone when nobody has it open, and its name cannot be removed before", name, runtime.GOOS)}
		}
	}
	if force {
		return semaphore.Unlink(name, inDirectory()...)
	}
	if err := barelyUsed(name); err != nil {
		return err
	}
	removed, err := unlinkUnused(name)
	if err != nil {
		return err
	}
	switch err := unlinkOthers(name); {
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case !removed:
		return &semaphore.Error{Op: "unlink", Name: name, Err: err}
	}
	return nil
}

// unlinkUnused removes the name of a recoverable semaphore, if there is one, and it is in no use. A file that
// is none, nobody can use.
func unlinkUnused(name string) (removed bool, err error) {
	eng := registered(semaphore.EngineRecoverable)
	if eng == nil {
		return false, nil
	}
	err = eng.UnlinkUnused(directory, name)
	var in *engine.InUse
	var none *engine.NoSemaphore
	switch {
	case errors.As(err, &in):
		return false, inUse(name, usersNamed(name, in))
	case errors.As(err, &none):
		err = eng.Unlink(directory, name)
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, semaphore.ErrCorrupt):
		return false, unseen(statusDataErr, name, err)
	case errors.Is(err, fs.ErrPermission):
		if _, looked := observe(name); looked != nil {
			return false, unseen(statusNoPerm, name, err)
		}
	}
	if err != nil {
		return false, &semaphore.Error{Op: "unlink", Name: name, Err: err}
	}
	return true, nil
}

func unseen(status int, name string, err error) error {
	return &failure{status, fmt.Errorf("%q: whether it is in use cannot be seen (%w); with -f its name is removed without a look", name, err)}
}

// unlinkOthers removes the name of bare counts.
func unlinkOthers(name string) error {
	var errs []error
	removed := false
	done := map[string]bool{semaphore.EngineRecoverable.String(): true}
	for _, eng := range engines() {
		if done[eng.Store] {
			continue
		}
		done[eng.Store] = true
		switch err := eng.Unlink(directory, name); {
		case err == nil:
			removed = true
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, &semaphore.Error{Op: "unlink", Name: name, Err: err})
		}
	}
	if !removed && errs == nil {
		return engine.ErrNoSuch
	}
	return errors.Join(errs...)
}

func inUse(name, by string) error {
	return &failure{statusTempFail, fmt.Errorf("%q is in use%s; with -f its name is removed all the same", name, by)}
}

// usersNamed names those who hold permits of a semaphore, or else some of those who have it open.
func usersNamed(name string, in *engine.InUse) string {
	if o, err := observe(name); err == nil && len(o.Handles) > 0 {
		return ": " + usersOf(o)
	}
	c := crowd{others: max(0, len(in.Users)-mostNamed)}
	for _, u := range in.Users[:min(mostNamed, len(in.Users))] {
		c.first = append(c.first, nameOf((&lockView{}).look(engine.ObservedHandle{Holder: u})))
	}
	return c.clause(": open in ", mostCommand)
}

// barelyUsed returns an error if a process has a bare count of that name open.
func barelyUsed(name string) error {
	for _, e := range []semaphore.Engine{semaphore.EngineNative, semaphore.EngineFlock} {
		eng := observer(e)
		if eng == nil {
			continue
		}
		o, err := eng.Observe(directory, name)
		if err != nil {
			continue // there is none, or nobody can use it
		}
		users := openIn(observation{Observation: o})
		c := crowd{others: max(0, len(users)-mostNamed)}
		for _, p := range users[:min(mostNamed, len(users))] {
			c.first = append(c.first, nameOf(handle{process: p}))
		}
		if len(users) > 0 {
			return inUse(name, c.clause(": open in ", mostCommand))
		}
	}
	return nil
}

// unlinkIdle removes the names of all recoverable semaphores that nobody has open.
func (inv *invocation) unlinkIdle(cmd *cobra.Command) error {
	if _, err := storeDir(); err != nil {
		return usageError(cmd.CommandPath(), "%w", err)
	}
	files, err := storedFiles()
	if err != nil {
		return err
	}
	eng := registered(semaphore.EngineRecoverable)
	if eng == nil {
		return &failure{statusUnavailable, errors.New("recoverable semaphores are not in this build")}
	}
	var all []string
	for _, f := range files {
		if f.Prefix == names.Recoverable {
			all = append(all, f.Name)
		}
	}
	return inv.each(all, func(name string) error {
		err := eng.UnlinkUnused(directory, name)
		var in *engine.InUse
		switch {
		case err == nil:
			_, err = fmt.Fprintln(inv.stdout, printable(name))
			return err
		case errors.As(err, &in), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
			return nil // in use, gone, or another user's
		}
		return &semaphore.Error{Op: "unlink", Name: name, Err: err}
	})
}
