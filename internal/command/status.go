package command

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/exitsignal"
	"github.com/procsem/semaphore/internal/names"
)

// The exit statuses of sysexits.h, and those of shells for commands that
// cannot be run.
const (
	statusUsage       = 64
	statusDataErr     = 65
	statusNoInput     = 66
	statusUnavailable = 69
	statusDeadlock    = 70
	statusOSErr       = 71
	statusCantCreate  = 73
	statusTempFail    = 75
	statusLost        = 76
	statusNoPerm      = 77
	statusConfig      = 78
	statusTimedOut    = 124
	statusCannotExec  = 126
	statusNotFound    = 127
	statusSignal      = 128 // plus the signal's number
)

const statusHelp = `EXIT STATUS:

0 - success; for run, the command's own status, whatever it is
64 - usage: wrong flags, arguments, semaphore name or SEMAPHORE_DIR
65 - not a semaphore, a damaged one, or one of the other kind; create --from: a wrong line
66 - no such semaphore, no directory SEMAPHORE_DIR or --dir, or no FILE
69 - not supported on this system, or on a network or FUSE filesystem
70 - it would wait for itself: so many permits are held by what runs it (PROCSEM_HELD)
71 - any other error, most of them the operating system's
73 - create --exclusive: the semaphore exists
75 - gave up waiting for a permit (-E sets another status); unlink: it is in use
76 - run --store: the permit was lost, and the command was ended
77 - permission denied
78 - run, create: -n differs from the limit of a semaphore in use
124 - run --max-hold: the command had run for too long, and was ended
126 - run: the command was found but could not be executed
127 - run: the command was not found
128+N - run: signal N killed the command

When a signal ends a wait, or Ctrl-C or Ctrl-\ the command, procsem dies of that
same signal.

On Windows the command's status has 32 bits, and is passed on as it is. When
Ctrl-C ends a wait, procsem's status is that of any program that Ctrl-C ends,
0xC000013A (3221225786).`

// A failure is an error with an exit status of its own.
type failure struct {
	status int
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// usageError says what is wrong with the command line and what is allowed. where is
// the command whose help explains more.
func usageError(where, format string, args ...any) error {
	return &failure{statusUsage, fmt.Errorf("%w (see %s --help)", fmt.Errorf(format, args...), where)}
}

// A commandStatus is the exit status of the command that run ran. procsem exits with
// it and prints nothing: reporting errors was up to the command.
type commandStatus int

func (s commandStatus) Error() string { return fmt.Sprintf("the command ended with status %d", int(s)) }

// signalled is the error of a wait, start or command that a signal ended, and procsem
// with it.
type signalled struct{ sig os.Signal }

func (s signalled) Error() string { return fmt.Sprintf("ended by signal: %v", s.sig) }

// report prints an error to stderr and returns its exit status.
func report(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	if status, ok := err.(commandStatus); ok {
		return int(status)
	}
	if s, ok := err.(signalled); ok {
		return exitsignal.Die(s.sig)
	}
	complain(stderr, "%s", message(err))
	return statusOf(err)
}

func statusOf(err error) int {
	var f *failure
	if errors.As(err, &f) {
		return f.status
	}
	for _, row := range []struct {
		target error
		status int
	}{
		{semaphore.ErrInvalidName, statusUsage},
		{semaphore.ErrInvalidValue, statusUsage},
		{semaphore.ErrInvalidOption, statusUsage}, // SEMAPHORE_DIR
		{semaphore.ErrCorrupt, statusDataErr},
		{semaphore.ErrKindMismatch, statusDataErr},
		{semaphore.ErrLimitMismatch, statusConfig},
		{semaphore.ErrUnsupported, statusUnavailable},
		{fs.ErrNotExist, statusNoInput},
		{fs.ErrExist, statusCantCreate},
		{fs.ErrPermission, statusNoPerm},
	} {
		if errors.Is(err, row.target) {
			return row.status
		}
	}
	return statusOSErr
}

// message is the text of an error without what only programs in Go have to know, and with the remedy of an error
// that any system call may have.
func message(err error) string {
	text := err.Error()
	if e, ok := err.(*semaphore.Error); ok && e.Op == "list" {
		text = e.Err.Error()
	} else if ok {
		text = fmt.Sprintf("%q: %v", e.Name, e.Err)
	}
	if text = inWords.Replace(text); errors.Is(err, syscall.EMFILE) {
		text += ": the limit of open files (ulimit -n) is too low"
	}
	return text
}

// inWords removes what the library's errors repeat of those of the standard library.
var inWords = strings.NewReplacer(
	": semaphore: ", ": ",
	"no such semaphore: file does not exist", "no such semaphore",
	"semaphore exists: file already exists", "semaphore exists",
	"(SEMAPHORE_DIR, or WithDir)", "(--dir, or SEMAPHORE_DIR)",
)

// blameDirectory returns a clearer error if SEMAPHORE_DIR is what is wrong: each command
// fails in its own way when it is missing, or a file.
func blameDirectory(err error) error {
	switch err.(type) {
	case nil, commandStatus, signalled, *failure:
		return err
	}
	if directory != "" || cluster != nil {
		return err // chooseDirectory has looked at it, and SEMAPHORE_DIR does not matter
	}
	if _, wrong := names.Dir(); wrong != nil {
		return &failure{statusUsage, wrong}
	}
	dir := os.Getenv(names.DirVariable)
	if status := statusOf(err); dir == "" || status != statusOSErr && status != statusNoInput {
		return err
	}
	info, missing := os.Stat(dir)
	var path *fs.PathError
	switch {
	case errors.Is(missing, fs.ErrPermission):
		return err
	case errors.As(missing, &path):
		missing = path.Err
	case !info.IsDir():
		missing = errors.New("not a directory")
	default:
		return err
	}
	return &failure{statusNoInput, fmt.Errorf("SEMAPHORE_DIR is %q: %w", dir, missing)}
}

// complain prints a message of procsem, as one line.
func complain(stderr io.Writer, format string, args ...any) {
	message := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ") // of errors.Join
	fmt.Fprintf(stderr, "procsem: %s\n", disarmed(message))
}

// disarmed writes what a terminal might obey, in names and paths that others have chosen, as in Go.
func disarmed(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		char := s[:size]
		if s = s[size:]; !unicode.IsPrint(r) || r == utf8.RuneError {
			char = strings.Trim(strconv.Quote(char), `"`)
		}
		b.WriteString(char)
	}
	return b.String()
}
