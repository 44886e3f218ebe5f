//go:build unix || windows

package testkit

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/procsem/semaphore"
)

// CreateMain is the helper "create" of Race, which creates a semaphore when it gets a line.
func CreateMain(args []string) int {
	var engine semaphore.Engine
	fmt.Sscan(args[1], &engine)
	fmt.Println("ready")
	fmt.Scanln() // the starting gun, for all at once
	opts := []semaphore.Option{semaphore.WithEngine(engine), semaphore.WithExclusive(args[2] == "true")}
	if len(args) > 3 {
		opts = append(opts, semaphore.WithDir(args[3]))
	}
	_, err := semaphore.Open(args[0], opts...)
	switch {
	case err == nil:
		fmt.Println("won")
	case errors.Is(err, fs.ErrExist):
		fmt.Println("exists")
	case errors.Is(err, semaphore.ErrKindMismatch):
		fmt.Println("mismatch")
	default:
		fmt.Println(err)
	}
	fmt.Scanln()
	return 0
}

// Race starts one process for each engine of the list, which create the name
// at the same moment, in the directory if one is given, and counts their answers.
func Race(t *testing.T, name string, exclusive bool, engines []semaphore.Engine, dir ...string) map[string]int {
	t.Helper()
	var actors []*Actor
	for _, e := range engines {
		a := StartActorCommand(t, "create", Helper(t, "create", append([]string{name, fmt.Sprint(int(e)), fmt.Sprint(exclusive)}, dir...)...))
		if got := a.Answer(); got != "ready" {
			t.Fatal(got)
		}
		actors = append(actors, a)
	}
	for _, a := range actors {
		a.Send("")
	}
	got := make(map[string]int)
	for i, a := range actors {
		answer := a.Answer()
		got[answer]++
		if answer == "won" {
			got[engines[i].String()]++
		}
	}
	for _, a := range actors {
		a.Send("")
	}
	return got
}
