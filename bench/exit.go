package main

import (
	"log"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
)

// leftovers are the files, semaphores and processes that must not outlive the program.
var leftovers struct {
	sync.Mutex
	remove map[*func()]struct{} // a set of functions that each remove one
}

// atExit runs f once: when done is called, or else when the program ends, also by a
// failure or a signal.
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

// exit cleans up and ends the program. A second goroutine may call it because it has
// failed on something that the first one has removed; it blocks until the program ends.
func exit(status int) {
	if exiting.Swap(true) {
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

var exiting atomic.Bool

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
