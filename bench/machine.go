package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// machine says where the figures come from, in pairs of names and values.
func machine(installed []*peer) (facts [][2]string) {
	add := func(name, value string) {
		if value != "" {
			facts = append(facts, [2]string{name, value})
		}
	}
	add("CPU", fmt.Sprintf("%s, %d processors", field("/proc/cpuinfo", "model name"), runtime.NumCPU()))
	var kB float64
	fmt.Sscan(field("/proc/meminfo", "MemTotal"), &kB)
	add("memory", fmt.Sprintf("%.0f GB", kB/1e6))
	var u unix.Utsname
	must(unix.Uname(&u))
	release, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-") // without what its builder calls it
	add("kernel", unix.ByteSliceToString(u.Sysname[:])+" "+release)
	add("libc", output("getconf", "GNU_LIBC_VERSION"))
	add("C compiler", output("cc", "--version"))
	add("Go", strings.TrimPrefix(runtime.Version(), "go")+", "+runtime.GOARCH)
	add("this module", output("git", "describe", "--always", "--dirty"))
	info, _ := debug.ReadBuildInfo()
	for _, m := range info.Deps {
		switch m.Path {
		case "golang.org/x/sync", "github.com/juju/mutex/v2", "github.com/gofrs/flock", "github.com/rogpeppe/go-internal":
			add(m.Path, m.Version)
		}
	}
	for _, p := range installed {
		if p.version != nil {
			add(p.name, p.version())
		}
	}
	return facts
}

// field returns what a file of /proc says after a name and a colon.
func field(path, name string) string {
	content, _ := os.ReadFile(path)
	for line := range strings.Lines(string(content)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
