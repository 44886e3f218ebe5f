package store

import (
	"io/fs"

	"github.com/procsem/semaphore/internal/engine"
)

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
