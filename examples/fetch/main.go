// Fetch gets URLs into the directory "cache": at most two at a time, however many of it run on this machine.
package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"

	"github.com/procsem/semaphore"
)

func main() {
	for _, address := range os.Args[1:] {
		err := semaphore.Do(context.Background(), "example-fetch", 2, func(context.Context) error { return fetch(address) })
		if err != nil {
			log.Fatal(err)
		}
	}
}

func fetch(address string) error {
	response, err := http.Get(address)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	// This lock is beside what it guards: all who write to this cache meet there, and nobody else.
	return semaphore.Do(context.Background(), "write", 1, func(context.Context) error {
		return os.WriteFile("cache/"+url.PathEscape(address), body, 0o644)
	}, semaphore.WithDir("cache"))
}
