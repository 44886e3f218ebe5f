package command

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// The variables by which a command learns what it runs with.
const (
	slotVariable  = "PROCSEM_SLOT"
	nameVariable  = "PROCSEM_NAME"
	limitVariable = "PROCSEM_LIMIT"
	heldVariable  = "PROCSEM_HELD" // see deadlock.go
	tokenVariable = "PROCSEM_TOKEN"
)

// environmentOf returns the environment of a command that runs with these permits: procsem's own,
// which permit of NAME it has, and what it and those that run it hold. What procsem has inherited from another procsem, which runs
// it, is left out also where nothing replaces it: the command would take the number of
// another semaphore's permit for its own. And a program that procsem becomes would find the
// first of two variables of one name.
func environmentOf(main *holding, all holdings) ([]string, error) {
	s := main.s
	env := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		variable, _, _ := strings.Cut(entry, "=")
		return slices.ContainsFunc([]string{slotVariable, nameVariable, limitVariable, heldVariable, tokenVariable, backgroundVariable}, func(ours string) bool {
			return variable == ours || runtime.GOOS == "windows" && strings.EqualFold(variable, ours)
		})
	})
	env = append(env, nameVariable+"="+s.Name())
	held, err := heldWith(all)
	if err != nil {
		return nil, err
	}
	if held != "" {
		env = append(env, heldVariable+"="+held)
	}
	slots, token := main.permit.Slots(), main.permit.Token()
	switch {
	case token != 0: // of a store, whose permits have no numbers
		env = append(env, tokenVariable+"="+strconv.FormatInt(token, 10))
	case slots == nil:
		return env, nil // a bare count, without numbers and without a limit
	default:
		env = append(env, slotVariable+"="+commaSeparated(slots))
	}
	limit, err := s.Limit()
	if err != nil {
		return nil, err
	}
	return append(env, limitVariable+"="+strconv.Itoa(limit)), nil
}

// commaSeparated returns numbers in the form that CUDA_VISIBLE_DEVICES takes: 0,3.
func commaSeparated(numbers []int) string {
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = strconv.Itoa(n)
	}
	return strings.Join(texts, ",")
}
