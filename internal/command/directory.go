package command

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/store"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// With --dir all names are those of semaphores in that directory. POSIX semaphores are in none that can be chosen: they
// are neither looked for nor in the way (but see kinds). The command that run starts gets nothing of it.

// directory is what --dir says, as an absolute path, or "". Like SEMAPHORE_DIR it is one for the process.
var directory string

func directoryOption(flags *pflag.FlagSet) {
	flags.String(dirFlag, "", "use the recoverable semaphores in the directory `DIR`, and not those in SEMAPHORE_DIR or the usual one")
}

// chooseDirectory sets directory.
func chooseDirectory(cmd *cobra.Command) error {
	directory = ""
	if !cmd.Flags().Changed(dirFlag) {
		return nil
	}
	given := text(cmd, dirFlag)
	switch {
	case given == "":
		return usageError(cmd.CommandPath(), `--dir "": the path of a directory is needed`)
	case isSet(cmd, posixFlag):
		return usageError(cmd.CommandPath(), "--dir and --posix; only recoverable semaphores are in a directory that can be chosen")
	}
	dir, err := store.Choose(given)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &failure{statusNoInput, fmt.Errorf("--dir %q: there is no such directory, and procsem makes none", given)}
	case errors.Is(err, semaphore.ErrInvalidOption):
		return &failure{statusNoInput, fmt.Errorf("--dir %q: not a directory", given)}
	case errors.Is(err, fs.ErrPermission):
		return &failure{statusNoPerm, fmt.Errorf("--dir %q: %w", given, bare(err))}
	case err != nil:
		return &failure{statusNoInput, fmt.Errorf("--dir %q: %w", given, bare(err))}
	}
	directory = dir
	return nil
}

// storeDir returns the directory of recoverable semaphores.
func storeDir() (string, error) {
	if directory != "" {
		return directory, nil
	}
	return names.Dir()
}

// wrongDir returns an error if the directory of all semaphores is none.
func wrongDir(cmd *cobra.Command) error {
	if cluster != nil {
		return nil
	}
	if _, err := storeDir(); err != nil {
		return usageError(cmd.CommandPath(), "%w", err)
	}
	return nil
}

// storedFiles returns the files that have names of semaphores' files.
func storedFiles() ([]names.File, error) {
	if directory != "" {
		return names.ListIn(directory)
	}
	return names.List()
}

// inDirectory adds --dir to the options by which a semaphore is opened or unlinked.
func inDirectory(opts ...semaphore.Option) []semaphore.Option {
	if directory != "" {
		opts = append(slices.Clip(opts), semaphore.WithDir(directory))
	}
	return opts
}

// engines returns those of this build whose semaphores can be meant.
func engines() []*engine.Engine {
	if directory == "" {
		return engine.Registered()
	}
	return store.WithDirs(engine.Registered())
}

// kinds are the engines among which a name is of one kind: in the usual directory it is so for all, as without --dir.
func kinds() []*engine.Engine {
	if directory == "" {
		return engine.Registered()
	}
	return store.KindsIn(engine.Registered(), directory)
}

// openBareIn opens a bare count in the directory: a flock-counter, the only one that is in a file there.
func openBareIn(name string, opts []semaphore.Option) (*semaphore.Semaphore, error) {
	if registered(semaphore.EngineFlock) != nil {
		s, err := semaphore.Open(name, append(inDirectory(opts...), semaphore.WithEngine(semaphore.EngineFlock))...)
		if !errors.Is(err, semaphore.ErrKindMismatch) || keptThere(name, semaphore.EngineRecoverable, semaphore.EngineFlock) {
			return s, err
		}
	}
	err := fmt.Errorf("%w, in %s", engine.ErrNoSuch, directory)
	if keptThere(name, semaphore.EngineRecoverable) {
		err = semaphore.ErrKindMismatch
	}
	return nil, &semaphore.Error{Op: "open", Name: name, Err: err}
}

// keptThere reports whether there is a semaphore of that name, of one of these kinds, in the directory.
func keptThere(name string, kinds ...semaphore.Engine) bool {
	return slices.ContainsFunc(kinds, func(e semaphore.Engine) bool {
		eng := registered(e)
		if eng == nil {
			return false
		}
		there, err := eng.Exists(directory, name, nil)
		return there || err != nil
	})
}

// toType is how procsem is to be called for semaphores of the same directory, whatever the working directory is, or of the same store.
func toType() string {
	switch {
	case cluster != nil:
		return "procsem --store " + shellWord(clusterBy)
	case directory == "":
		return "procsem"
	}
	return "procsem --dir " + shellWord(directory)
}

// shellWord writes a path or a URL so that a shell takes it for one word.
func shellWord(s string) string {
	const harmless = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+@:,/-"
	switch {
	case strings.Trim(strings.ReplaceAll(s, string(filepath.Separator), ""), harmless) == "":
		return s
	case runtime.GOOS == "windows":
		return `"` + s + `"` // no path has quotes
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// afterDirectory returns the arguments of a procsem from its command on.
func afterDirectory(args []string) []string {
	for len(args) > 0 {
		flag, _, whole := strings.Cut(args[0], "=")
		switch {
		case !slices.ContainsFunc(forAll, func(of string) bool { return flag == "--"+of }):
			return args
		case whole:
			args = args[1:]
		default:
			args = args[min(2, len(args)):]
		}
	}
	return nil
}

// forAll are the options that may be before a command.
var forAll = []string{dirFlag, storeFlag, caCertFlag, certFlag, keyFlag, userFlag, ttlFlag}
