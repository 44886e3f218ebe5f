package main

import (
	"log"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
)

// What must not outlive the program: files, semaphores, processes.
var leftovers struct {
	sync.Mutex
	remove map[*func()]struct{}
}

// atExit runs f when the program ends, also by a failure or a signal, or earlier,
// when done is called.
func atExit(f func()) (done func()) {
	leftovers.Lock()
	defer leftovers.Unlock()
	if leftovers.remove == nil {
		leftovers.remove = make(map[*func()]struct{})
	}
	leftovers.remove[&f] = struct{}{}
	return func() {
		leftovers.Lock()
		_, there := leftovers.remove[&f]
		delete(leftovers.remove, &f)
		leftovers.Unlock()
		if there {
			f()
		}
	}
}

// exit cleans up and ends the program. Whoever comes second, because of what the
// first one has removed, waits for that.
func exit(status int) {
	if leaving.Swap(true) {
		select {}
	}
	leftovers.Lock()
	remove := leftovers.remove
	leftovers.remove = nil
	leftovers.Unlock()
	for f := range remove {
		(*f)()
	}
	os.Exit(status)
}

var leaving atomic.Bool

// exitOnSignal cleans up when the program is interrupted.
func exitOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		log.Print(<-signals)
		exit(1)
	}()
}

func fail(format string, args ...any) {
	log.Printf(format, args...)
	exit(1)
}

func must(err error) {
	if err != nil {
		log.Output(2, err.Error())
		exit(1)
	}
}
