package store

import (
	"io/fs"
	"slices"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/names"
)

// WithDirs returns the engines whose semaphores can be meant where a directory was chosen.
func WithDirs(all []*engine.Engine) []*engine.Engine {
	return slices.DeleteFunc(slices.Clone(all), func(e *engine.Engine) bool { return !e.Dirs })
}

// KindsIn returns the engines among which a name is of one kind in a directory that was chosen: all if
// it is the usual one, where others look at all, too.
func KindsIn(all []*engine.Engine, dir string) []*engine.Engine {
	if names.IsDefault(dir) {
		return all
	}
	return WithDirs(all)
}

// OtherKind returns the one among engines that has a semaphore of that name in another store
// than eng's, nil if none has. Those that have their files in directories look in dir. Beside a
// file of ours that exists not every file counts (CountsBeside).
func OtherKind(among []*engine.Engine, eng *engine.Engine, dir, name string, ours fs.FileInfo) (*engine.Engine, error) {
	var counts func(fs.FileInfo) bool
	if ours != nil {
		counts = CountsBeside(ours)
	}
	for _, other := range among {
		if other.Store == eng.Store {
			continue
		}
		if dir == "" && other.Dirs { // found out once for all; an engine that cannot do without says why there is none
			if usual, err := Dir(""); err == nil {
				dir = usual
			}
		}
		exists, err := other.Exists(dir, name, counts)
		if err != nil {
			return nil, err
		}
		if exists {
			return other, nil
		}
	}
	return nil, nil
}
