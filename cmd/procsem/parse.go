package main

import (
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/procsem/semaphore/internal/engine"
)

// The parser's own number and duration flags would accept 0x10 as a limit, read 010
// as 8 and refuse 30 as a duration, so procsem's flags are strings that are parsed
// here.

// parseValue returns a parser of values or limits from least to most.
func parseValue(least, most int) func(flag, s string) (int, error) {
	return func(flag, s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < least || n > most {
			return 0, fmt.Errorf("%s %q: a whole number from %d to %d is allowed", flag, s, least, most)
		}
		return n, nil
	}
}

func parseLabel(flag, s string) (string, error) {
	if wrong := engine.WrongLabel(s); wrong != "" {
		return "", fmt.Errorf("%s %q: %s", flag, s, wrong)
	}
	return s, nil
}

func parseStatus(flag, s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("%s %q: an exit status from 0 to 255 is allowed", flag, s)
	}
	return int(n), nil
}

func parseMode(flag, s string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > uint64(fs.ModePerm) {
		return 0, fmt.Errorf("%s %q: permission bits in octal, 0 to 0777, are allowed", flag, s)
	}
	return fs.FileMode(n), nil
}

// parseTimeout accepts 30, 0.5 (seconds) and 1m30s.
func parseTimeout(flag, s string) (time.Duration, error) {
	duration := s
	if strings.Trim(s, "0123456789.") == "" {
		duration += "s"
	}
	d, err := time.ParseDuration(duration)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%s %q: seconds (30, 0.5) or a duration (1m30s) from 0 to %v are allowed",
			flag, s, time.Duration(math.MaxInt64).Truncate(time.Hour))
	}
	return d, nil
}
