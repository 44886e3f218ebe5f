//go:build !linux

package semaphore

// fastWords are nowhere but on Linux.
type fastWords struct{}

func fastOf(backend) *fastWords { return nil }

func (*fastWords) take() bool    { return false }
func (*fastWords) give() bool    { return false }
func (*fastWords) post() error   { return ErrUnsupported }
func (*fastWords) value() uint32 { return 0 }
