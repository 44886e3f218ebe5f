// Package chaos proves the semaphores in etcd under faults: see chaos_test.go.
package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/etcd"
)

// A record is what a worker tells, a line of JSON each. Times are of CLOCK_MONOTONIC, which all processes of the machine share.
type record struct {
	What  string // asks, holds, leaves, left, lost
	ID    int    // of one acquisition of the worker
	N     int    // permits
	Name  string
	At    int64
	Token int64
}

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// A plan is what a worker is told by its environment.
type plan struct {
	Endpoints  []string
	Names      []string
	TTL, Delay time.Duration
	Limit      int
}

const planVariable = "SEMAPHORE_CHAOS_PLAN"

func say(r record) {
	r.At = max(r.At, 0)
	if r.At == 0 {
		r.At = monotonic()
	}
	line, _ := json.Marshal(r)
	os.Stdout.Write(append(line, '\n'))
}

// work takes and gives until it is killed.
func work(text string) error {
	_, _ = io.Copy(io.Discard, os.Stdin) // until its network is there
	var p plan
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&p); err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: p.Endpoints, DialTimeout: 2 * time.Second, DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	open := make(map[string]*semaphore.Semaphore)
	for id := 1; ; id++ {
		name := p.Names[rand.IntN(len(p.Names))]
		s := open[name]
		if s == nil {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			s, err = etcd.Open(ctx, client, name, etcd.WithTTL(p.TTL), etcd.WithLossDelay(p.Delay))
			cancel()
			if err != nil {
				say(record{What: "error: " + err.Error(), Name: name})
				time.Sleep(100 * time.Millisecond)
				continue
			}
			open[name] = s
		}
		n := 1
		switch rand.IntN(10) {
		case 0:
			n = semaphore.All
		case 1, 2:
			n = 2
		}
		take := func() (*semaphore.Permit, error) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.Int64N(int64(20*time.Second))))
			defer cancel()
			return s.AcquireN(ctx, n)
		}
		if rand.IntN(8) == 0 {
			take = func() (*semaphore.Permit, error) { return s.TryAcquireN(n) }
		}
		say(record{What: "asks", ID: id, N: n, Name: name})
		permit, err := take()
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, semaphore.ErrWouldBlock) && !errors.Is(err, semaphore.ErrInvalidValue) {
				say(record{What: "error: " + err.Error(), ID: id, Name: name})
			}
			say(record{What: "nothing", ID: id, Name: name})
			continue
		}
		say(record{What: "holds", ID: id, N: n, Name: name, Token: permit.Token()})
		// It is inside as long as Err says so, as of before each look.
		last := int64(0)
		lost := false
		stay := time.Duration(rand.Int64N(int64(300 * time.Millisecond)))
		if rand.IntN(2) == 0 { // longer than a leader stands still
			stay = time.Duration(rand.Int64N(int64(10 * time.Second)))
		}
		for end := time.Now().Add(stay); time.Now().Before(end); time.Sleep(time.Millisecond) {
			now := monotonic()
			if permit.Err() != nil {
				lost = true
				break
			}
			last = now
			if rand.IntN(50) == 0 {
				say(record{What: "inside", ID: id, Name: name, At: last})
			}
		}
		if lost {
			say(record{What: "lost", ID: id, Name: name, At: last})
			permit.Release()
			continue
		}
		now := monotonic()
		if permit.Err() != nil {
			say(record{What: "lost", ID: id, Name: name, At: last})
			permit.Release()
			continue
		}
		say(record{What: "leaves", ID: id, Name: name, At: now})
		if err := permit.Release(); err != nil {
			say(record{What: fmt.Sprintf("not released: %v", err), ID: id, Name: name})
		} else {
			say(record{What: "left", ID: id, Name: name})
		}
		if rand.IntN(20) == 0 {
			s.Close()
			delete(open, name)
		}
	}
}
