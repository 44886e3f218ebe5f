// Package proc reads what the system knows of a process. It is the one
// importer of gopsutil, which must not come into the module graph of programs
// that import the semaphore package.
package proc

import "github.com/shirou/gopsutil/v3/process"

// Usage is what a process may leak.
type Usage struct {
	Descriptors int
	Mappings    int
	Threads     int
}

// UsageOf returns the usage of a process.
func UsageOf(pid int) (Usage, error) {
	p, err := process.NewProcess(int32(pid))
	if err != nil {
		return Usage{}, err
	}
	fds, err := p.NumFDs()
	if err != nil {
		return Usage{}, err
	}
	maps, err := p.MemoryMaps(false)
	if err != nil {
		return Usage{}, err
	}
	threads, err := p.NumThreads()
	return Usage{int(fds), len(*maps), int(threads)}, err
}
