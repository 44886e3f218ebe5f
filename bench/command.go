package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// The command is measured as whole processes, from before its start until it has ended, with a command
// that does nothing: that is what a script pays for it.

// pairsOf compares two commands, which take turns n times in each round. The dir is theirs.
func pairsOf(n int, ours, theirs func(dir string) []string) func() (func(int) (sample, sample), func()) {
	return func() (func(int) (sample, sample), func()) {
		dir, err := os.MkdirTemp("", "semaphore-bench-")
		must(err)
		remove := atExit(func() { os.RemoveAll(dir) })
		us, them := ours(dir), theirs(dir)
		return func(int) (sample, sample) {
			var a, b []sample
			for range n {
				a, b = append(a, runOnce(dir, us)), append(b, runOnce(dir, them))
			}
			return medianOf(a), medianOf(b)
		}, remove
	}
}

// runOnce runs a command, whose semaphores are in dir.
func runOnce(dir string, args []string) sample {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "SEMAPHORE_DIR="+dir, "PARALLEL_HOME="+dir, "TS_SOCKET="+socket(dir))
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		fail("%q: %v: %s", args, err, out)
	}
	used := cmd.ProcessState.SystemTime() + cmd.ProcessState.UserTime()
	return sample{float64(time.Since(start)), float64(used)}
}

// medianOf returns the median of each of the two figures.
func medianOf(s []sample) sample {
	var wall, cpu []float64
	for _, x := range s {
		wall, cpu = append(wall, x.wall), append(cpu, x.cpu)
	}
	return sample{median(wall), median(cpu)}
}

// procsem returns the paths of procsem, built without cgo, as it is released, and with cgo.
var procsem = sync.OnceValue(func() (paths [2]string) {
	dir, err := os.MkdirTemp("", "semaphore-bench-")
	must(err)
	atExit(func() { os.RemoveAll(dir) })
	for i := range paths {
		paths[i] = filepath.Join(dir, fmt.Sprint("procsem", i))
		build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", paths[i], "./cmd/procsem")
		build.Dir, build.Env, build.Stderr = "..", append(os.Environ(), fmt.Sprint("CGO_ENABLED=", i)), os.Stderr
		must(build.Run())
	}
	return paths
})

func runTrue(build int) func(string) []string {
	return func(string) []string { return []string{procsem()[build], "run", "bench", "true"} }
}
func flockTrue(dir string) []string { return []string{"flock", filepath.Join(dir, "file"), "true"} }
func semTrue(string) []string       { return []string{"sem", "--fg", "--id", "bench", "true"} }

// tspTrue has a server, which starts here: later it would keep open the pipes by which the command is started.
func tspTrue(dir string) []string {
	must(tsp(dir).Run())
	return []string{"tsp", "-n", "-f", "true"}
}

func tsp(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command("tsp", args...)
	cmd.Env = append(os.Environ(), "TS_SOCKET="+socket(dir))
	return cmd
}

func socket(dir string) string { return filepath.Join(dir, "tsp") }

// startUp runs a command n times.
func startUp(p *peer, n int) []float64 {
	dir, err := os.MkdirTemp("", "semaphore-bench-")
	must(err)
	defer atExit(func() {
		if p.stop != nil {
			p.stop(dir)
		}
		os.RemoveAll(dir)
	})()
	args := p.start(dir)
	var all []sample
	for range n {
		all = append(all, runOnce(dir, args))
	}
	m := medianOf(all)
	return []float64{m.wall, m.cpu}
}
