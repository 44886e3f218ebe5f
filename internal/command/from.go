package command

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/spf13/cobra"
)

// create --from makes the semaphores that a file lists, as a machine has them made when it boots.

// A listedLine is a line of the file.
type listedLine struct {
	at string // file and number, for errors
	opener
}

func (inv *invocation) createFrom(cmd *cobra.Command, args []string) error {
	file := text(cmd, fromFlag)
	if len(args) > 0 {
		return usageError(cmd.CommandPath(), "--from %s and a NAME (%s); the names are in the file", file, strings.Join(args, " "))
	}
	for _, flag := range []string{limitFlag, jobsFlag, modeFlag, exclusiveFlag, posixFlag} {
		if cmd.Flags().Changed(flag) {
			return usageError(cmd.CommandPath(), "--from and --%s; each line of the file says its limit and mode, and what exists may stay", flag)
		}
	}
	lines, err := inv.readLines(file)
	if err != nil {
		return err
	}
	withoutUmask() // a line says what the mode is
	var failed failures
	for _, l := range lines {
		if err := inv.make(l); err != nil {
			failed = append(failed, &failure{statusOf(err), fmt.Errorf("%s: %s", l.at, message(err))})
		}
	}
	return failed.report(inv.stderr)
}

// failures are errors of several lines.
type failures []*failure

// report prints all but the last, which it returns with the status of the first.
func (f failures) report(stderr io.Writer) error {
	if len(f) == 0 {
		return nil
	}
	last := len(f) - 1
	for _, err := range f[:last] {
		complain(stderr, "%v", err)
	}
	return &failure{f[0].status, f[last].err}
}

// readLines reads and checks the whole file.
func (inv *invocation) readLines(file string) (lines []listedLine, err error) {
	from, name := inv.stdin, "standard input"
	if file != "-" {
		name = file
		f, err := os.Open(file)
		if err != nil {
			return nil, &failure{statusOf(err), fmt.Errorf("--from %s: %w", file, bare(err))}
		}
		defer f.Close()
		from = f
	}
	var wrong failures
	first := make(map[string]string) // where a name was first
	scanner := bufio.NewScanner(from)
	number := 0
	for scanner.Scan() {
		number++
		words := strings.Fields(scanner.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		l := listedLine{at: fmt.Sprintf("%s:%d", name, number)}
		l.opener, err = parseLine(words)
		if before := first[l.name]; err == nil && before != "" {
			err = fmt.Errorf("%q is in line %s too; each name is allowed once", l.name, before)
		}
		if err != nil {
			status := statusDataErr
			var f *failure
			if errors.As(err, &f) {
				status = f.status
			}
			wrong = append(wrong, &failure{status, fmt.Errorf("%s: %w", l.at, err)})
			continue
		}
		first[l.name] = strconv.Itoa(number)
		lines = append(lines, l)
	}
	if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
		wrong = append(wrong, &failure{statusDataErr, fmt.Errorf("%s:%d: the line has more than %d bytes; NAME LIMIT [MODE [OWNER[:GROUP]]] is allowed", name, number+1, bufio.MaxScanTokenSize)})
	} else if err != nil {
		wrong = append(wrong, &failure{statusOSErr, fmt.Errorf("--from %s: %w", file, bare(err))})
	}
	return lines, wrong.report(inv.stderr)
}

// bare is an error of the system without the file's name.
func bare(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// parseLine reads the words NAME LIMIT [MODE [OWNER[:GROUP]]].
func parseLine(words []string) (o opener, err error) {
	if i := slices.IndexFunc(words, func(word string) bool { return strings.HasPrefix(word, "#") }); i >= 2 {
		return o, fmt.Errorf("%q after the LIMIT: comments are on lines of their own", words[i])
	}
	if len(words) < 2 || len(words) > 4 {
		return o, fmt.Errorf("%d words; NAME LIMIT [MODE [OWNER[:GROUP]]] is allowed", len(words))
	}
	o = opener{limited: true, mode: 0o600, owner: &engine.Caller}
	if err := semaphore.CheckName(words[0]); err != nil {
		return o, fmt.Errorf("the name %s", message(err))
	}
	o.name = strings.TrimPrefix(words[0], "/")
	if o.limit, err = parseLimit(1, permits.MaxPermits)("LIMIT", words[1]); err != nil {
		return o, err
	}
	if len(words) > 2 {
		o.mode, err = parseMode("MODE", words[2])
		whole := engine.BothOrNeither(o.mode)
		switch {
		case err != nil:
			return o, err
		case o.mode&0o600 != 0o600:
			return o, fmt.Errorf("MODE %q: the owner needs the rights to read and to write, 0600", words[2])
		case whole != o.mode:
			return o, fmt.Errorf("MODE %q: the group, and others, get the rights to read and to write only together; %04o is allowed", words[2], whole)
		}
	}
	if len(words) > 3 {
		o.owner, err = parseOwner(words[3])
	}
	return o, err
}

// parseOwner reads OWNER[:GROUP], names or numbers.
func parseOwner(s string) (*engine.Owner, error) {
	if !canSetOwner {
		return nil, &failure{statusUnavailable, fmt.Errorf("OWNER %q: on %s it cannot be chosen", s, runtime.GOOS)}
	}
	name, group, hasGroup := strings.Cut(s, ":")
	o := engine.Owner{GID: -1}
	var err error
	if o.UID, err = idOf("user", name, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	}); err != nil {
		return nil, fmt.Errorf("OWNER %q: %w", s, err)
	}
	if hasGroup {
		if o.GID, err = idOf("group", group, func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		}); err != nil {
			return nil, fmt.Errorf("OWNER %q: %w", s, err)
		}
	}
	if os.Geteuid() != 0 {
		return nil, &failure{statusNoPerm, fmt.Errorf("OWNER %q: only root can choose who owns a semaphore", s)}
	}
	return &o, nil
}

// maxID is the highest id; the next number is none, to the kernel.
const maxID = 1<<32 - 2

// idOf returns the number of a user or group, which may be given as such.
func idOf(what, name string, lookup func(string) (string, error)) (int, error) {
	number := name
	if strings.Trim(name, "0123456789") != "" {
		found, err := lookup(name)
		if err != nil {
			return 0, fmt.Errorf("there is no %s %q", what, name)
		}
		number = found
	}
	id, err := strconv.ParseInt(number, 10, 64)
	if err != nil || id > maxID {
		return 0, fmt.Errorf("%s %q: a name or a number from 0 to %d is allowed", what, name, int64(maxID))
	}
	return int(id), nil
}

// make creates a line's semaphore, or opens the one that exists, and prints a notice if that is another one than
// the line says.
func (inv *invocation) make(l listedLine) error {
	s, existed, before, err := l.ensure(false)
	if err != nil || s == nil {
		return err
	}
	defer s.Close()
	if !existed {
		return nil
	}
	limit, err := s.Limit()
	if err != nil {
		return err
	}
	switch {
	case before != limit && before != 0:
		complain(inv.notices, "%s: %s exists: its limit was %d and is %d now", l.at, printable(l.name), before, limit)
	case limit != l.limit:
		complain(inv.notices, "%s: %s exists: procsem resize has set its limit to %d, which stands", l.at, printable(l.name), limit)
	}
	path, err := pathOf(l.name)
	if err != nil {
		return err
	}
	info, err := statFile(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); canSetOwner && mode != l.mode {
		complain(inv.notices, "%s: %s exists: its mode, %04o, stands; to make a new one: %s unlink %[2]s", l.at, printable(l.name), mode, toType())
	}
	if is := ownerOf(info); canSetOwner && !l.isFor(is) {
		complain(inv.notices, "%s: %s exists: it belongs to user %d and group %d, who stay its owners; to make a new one: %s unlink %[2]s", l.at, printable(l.name), is.UID, is.GID, toType())
	}
	return nil
}

// isFor reports whether a semaphore's owner is the one that the line wants. Without an OWNER that is the caller, or root, whom
// everybody trusts: another one was refused.
func (l listedLine) isFor(is engine.Owner) bool {
	if *l.owner == engine.Caller {
		return true
	}
	return is.UID == l.owner.UID && (l.owner.GID < 0 || is.GID == l.owner.GID)
}
