package command

import (
	"fmt"
	"io/fs"
	"math"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
)

// The parser's own number and duration flags would accept 0x10 as a limit, read 010
// as 8 and refuse 30 as a duration, so procsem's flags are strings that are parsed
// here.

func parseLabel(flag, s string) (string, error) {
	if wrong := engine.WrongLabel(s); wrong != "" {
		return "", fmt.Errorf("%s %q: %s", flag, s, wrong)
	}
	return s, nil
}

// parsePermits accepts 2 and all.
func parsePermits(flag, s string) (int, error) {
	if s == "all" {
		return semaphore.All, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > permits.MaxPermits {
		return 0, fmt.Errorf("%s %q: a whole number from 1 to the limit, or \"all\", is allowed", flag, s)
	}
	return n, nil
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

// processors is how many processors this process may use.
func processors() int { return runtime.GOMAXPROCS(0) }

// parseLimit returns a parser of values or limits from least to most. It also accepts 50%, +0 and -1 of the
// processors, as GNU parallel does.
func parseLimit(least, most int) func(flag, s string) (int, error) {
	return func(flag, s string) (int, error) {
		percent, isPart := strings.CutSuffix(s, "%")
		n, err := strconv.Atoi(percent)
		switch {
		case err != nil || n > most || isPart && n < 0:
			n = least - 1
		case isPart:
			n = max(1, n*processors()/100)
		case strings.HasPrefix(s, "+"), strings.HasPrefix(s, "-"):
			n = max(1, processors()+n)
		}
		if n < least || n > most {
			return 0, fmt.Errorf("%s %q: a whole number from %d to %d is allowed, or a part of the processors: 50%%, +0, -1", flag, s, least, most)
		}
		return n, nil
	}
}

// units are those of systemd.time(7) up to weeks, and Go's.
var units = map[string]time.Duration{
	"ns": time.Nanosecond, "us": time.Microsecond, "µs": time.Microsecond, "ms": time.Millisecond, "msec": time.Millisecond,
	"s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
	"w": 7 * 24 * time.Hour, "week": 7 * 24 * time.Hour, "weeks": 7 * 24 * time.Hour,
}

// parseTime accepts 30, 0.5 (seconds), 1m30s, 5min and 1d 12h.
func parseTime(flag, s string) (time.Duration, error) {
	const digits = "0123456789."
	sum := 0.0
	rest := strings.TrimSpace(s)
	if rest != "" && strings.Trim(rest, digits) == "" {
		rest += "s"
	}
	for valid := rest != ""; valid && rest != ""; {
		unit := strings.TrimLeft(rest, digits)
		number, err := strconv.ParseFloat(rest[:len(rest)-len(unit)], 64)
		unit = strings.TrimLeft(unit, " ")
		end := strings.IndexAny(unit, digits+" ")
		if end < 0 {
			end = len(unit)
		}
		d := units[unit[:end]]
		sum += number * float64(d)
		rest = strings.TrimLeft(unit[end:], " ")
		if valid = err == nil && d != 0 && sum < math.MaxInt64; valid && rest == "" {
			return time.Duration(sum), nil
		}
	}
	return 0, fmt.Errorf("%s %q: seconds (30, 0.5) or a time (1m30s, 5min, 1d) up to %v are allowed",
		flag, s, time.Duration(math.MaxInt64).Truncate(time.Hour))
}
