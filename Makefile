# What there is to do. CONTRIBUTING.md says when, and how long each takes.

.PHONY: test lint storm sweep models mutants etcd chaos suites fuzz bench packages ci

test:
	go test ./...

lint:
	test -z "$$(gofmt -l . | tee /dev/stderr)"
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

storm:
	go test -run Storm ./test/storm ./internal/command -storm.kills 10000 -timeout 30m

sweep:
	go test -run Sweep ./test/sweep -sweep.full -timeout 0 -v

models:
	spec/run

mutants:
	go run ./test/mutants # those of the module etcd need the server: SEMAPHORE_ETCD names it

etcd:
	go -C etcd test ./...

chaos:
	go -C etcd/chaos test -v . -chaos.duration 10m

suites:
	cd interop && go test . && go run .

fuzz:
	go test -run '^$$' -fuzz FuzzOpenNative -fuzztime 1m -fuzzminimizetime 10x ./internal/glibc
	go test -run '^$$' -fuzz FuzzOpenFlock -fuzztime 1m -fuzzminimizetime 10x ./test/interop
	go test -run '^$$' -fuzz FuzzOpenRecoverable -fuzztime 1m -fuzzminimizetime 10x ./internal/recoverable
	go test -run '^$$' -fuzz FuzzTableInUse -fuzztime 1m -fuzzminimizetime 10x ./internal/recoverable

bench:
	cd bench && go run .

packages:
	STAGES=release bash .ci/run # with what its stage "tools" installs

ci:
	bash .ci/run
