package command

import (
	"errors"
	"io/fs"
	"slices"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/store"
)

// list, show and value are for looking. They read semaphores without opening them: a
// process that looks is no user. So it keeps no limit from being changed, needs no slot of a
// table that is full, gives nobody's permits back, and maps no file that its owner may truncate.

// An observation is a semaphore as it was seen at one moment.
type observation struct {
	engine.Observation
	kind string
	name string
}

// count returns how many handles hold permits, and how many wait.
func (o observation) count() (holders, waiters int) {
	for _, h := range o.Handles {
		if h.Permits > 0 {
			holders++
		}
		if h.Waiting {
			waiters++
		}
	}
	return holders, waiters
}

// registered returns an engine if it is in this build, and can be meant, or nil.
func registered(e semaphore.Engine) *engine.Engine {
	all := engines()
	if i := slices.IndexFunc(all, func(eng *engine.Engine) bool { return eng.Name == e.String() }); i >= 0 {
		return all[i]
	}
	return nil
}

// observer returns an engine if it is in this build and its semaphores can be observed, or nil.
func observer(e semaphore.Engine) *engine.Engine {
	if eng := registered(e); eng != nil && eng.Observe != nil {
		return eng
	}
	return nil
}

// observe looks at the semaphore of that name, of whatever kind. What some user has put under
// the name of one kind does not hide a semaphore of another.
func observe(name string) (observation, error) {
	if cluster != nil {
		return observeStored(name)
	}
	var failed error
	for _, e := range []semaphore.Engine{semaphore.EngineRecoverable, semaphore.EngineNative, semaphore.EngineFlock} {
		eng := observer(e)
		if eng == nil {
			continue
		}
		o, err := observeIn(eng, name)
		if err == nil || errors.Is(err, semaphore.ErrKindMismatch) {
			return observation{o, kindOfEngine(e), name}, err
		}
		if failed == nil && !errors.Is(err, fs.ErrNotExist) {
			failed = err
		}
	}
	if failed != nil {
		return observation{}, failed
	}
	// Only those that have them open can see the semaphores of other systems' libcs, and of
	// Windows. They have no slots.
	s, err := openExisting(name)
	if err != nil {
		return observation{}, err
	}
	defer s.Close()
	n, err := s.Value()
	return observation{engine.Observation{Value: n}, kindOf(s), name}, err
}

// observeIn looks at the semaphore that an engine has by that name. If the name is of another
// kind, too, that is an error: then nobody can open either.
func observeIn(eng *engine.Engine, name string) (engine.Observation, error) {
	o, err := eng.Observe(directory, name)
	var other *engine.Engine
	if err == nil {
		other, err = store.OtherKind(kinds(), eng, directory, name, o.File)
	}
	if other != nil {
		err = engine.Because(semaphore.ErrKindMismatch, "there is also one of that name of engine %v", other.Name)
	}
	if err != nil {
		err = &semaphore.Error{Op: "observe", Name: name, Err: err}
	}
	return o, err
}
