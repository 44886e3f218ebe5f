//go:build !unix

package command

import "fmt"

// becomeClient only says what is to be called: here a process cannot become another program.
func becomeClient(program string, _ []string) error {
	return &failure{statusUnavailable, fmt.Errorf("a store is used by %s: call that, with the same arguments", program)}
}
