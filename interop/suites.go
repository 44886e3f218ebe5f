//go:build suites

package main

// For `go mod tidy`, which looks at all build tags and at the tests of these packages:
// go.mod and go.sum have what the suites need.
import (
	_ "github.com/alexflint/go-filemutex"
	_ "github.com/gofrs/flock"
	_ "github.com/juju/mutex/v2"
	_ "github.com/procsem/semaphore"
	_ "golang.org/x/sync/semaphore"
)
