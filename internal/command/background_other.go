//go:build !unix

package command

import "errors"

const canDetach = false

// A link is nil: no procsem runs in the background.
type link struct{}

func newLink() (*link, error) { return nil, nil }

func (*link) watch(*watcher) {}
func (*link) begin() error   { return nil }
func (*link) say(byte)       {}

const started = 0

const backgroundVariable = "PROCSEM_BACKGROUND"

func (*invocation) detach(*watcher) error { return errors.ErrUnsupported }
