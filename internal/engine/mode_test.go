package engine

import (
	"io/fs"
	"testing"
)

func TestBothOrNeither(t *testing.T) {
	for mode, want := range map[fs.FileMode]fs.FileMode{
		0o600: 0o600, 0o666: 0o666, 0o660: 0o660, 0o606: 0o606, 0o644: 0o600, 0o664: 0o660, 0o640: 0o600,
		0o622: 0o600, 0o642: 0o600, 0o646: 0o606, 0o444: 0o400, 0o777: 0o777, 0o755: 0o711, 0: 0,
	} {
		if got := BothOrNeither(mode); got != want {
			t.Errorf("%04o: %04o, want %04o", uint32(mode), uint32(got), uint32(want))
		}
	}
}
