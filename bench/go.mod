module github.com/procsem/semaphore/bench

go 1.26.0

require (
	github.com/procsem/semaphore v0.0.0
	golang.org/x/sync v0.24.0
)

require golang.org/x/sys v0.47.0

replace github.com/procsem/semaphore => ../
