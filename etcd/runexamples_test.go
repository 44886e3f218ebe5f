package etcd_test

import (
	"io"
	"os"
	"testing"

	"github.com/procsem/semaphore/etcd/internal/etcdtest"
)

// The examples print what they should. They have no "Output", for "go test" would then run them where there is no server.
func TestExamples(t *testing.T) {
	endpoints = []string{etcdtest.Start(t).Address}
	for _, tt := range []struct {
		example func()
		want    string
	}{
		{Example, "step 0\nstep 1\n"},
		{ExampleGuard, "written by a holder: true\nwritten later: false\n"},
		{ExampleLeft, "does what takes a second\n"},
		{ExampleObserve, "tests: 1 of 2 are free\nheld by this process: true\nin use: true\nremoved: true\n"},
		{ExampleWithTTL, "the operator has to make it first\n"},
	} {
		if got := printed(t, tt.example); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// printed returns what f, which prints little, prints.
func printed(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stdout := os.Stdout
	os.Stdout = w
	f()
	os.Stdout = stdout
	w.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
