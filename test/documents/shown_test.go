//go:build unix

package documents

import (
	"testing"

	"github.com/procsem/semaphore/internal/doccode"
)

// Each exported name is in an example, or needs none. The examples of package etcd are tested in that module.
func TestExamplesShowAllNames(t *testing.T) {
	const root = "github.com/procsem/semaphore"
	doccode.CheckShown(t, map[string][]string{
		root: {
			"Engine.String", "Error.Error", "Error.Unwrap", "Semaphore.Name", "MaxValue", // what they return or are is all there is to say
			"Error.Err", "Holder.Host", "Holder.Opened", "Holder.Started", // fields like others that are shown
			"EngineAuto", "EngineDriver", "EngineRecoverable", // nobody asks for them by WithEngine
			"ErrCorrupt", "ErrInvalidOption", "ErrOverflow", "ErrTableFull", "ErrTooManyWaiters", // answered as others that are shown, if at all
		},
		root + "/driver":            {"Holder.Label", "Holder.Lost"},
		root + "/driver/drivertest": {"Run", "Store.Open", "Store.OneMachine", "Deadline"}, // the package's comment is the example
		root + "/semtest":           {"Main"},                                              // its comment is the example
	})
}
