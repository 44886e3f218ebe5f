package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/etcd"
)

// endpoints are where the store is.
var endpoints = []string{"127.0.0.1:2379"}

// connect returns the client of the package's example.
func connect() *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints})
	if err != nil {
		log.Fatal(err)
	}
	return client
}

// At most three at a time, on all machines. A holder asks before each step whether it still is one.
func Example() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, // []string{"etcd-1:2379", "etcd-2:2379", "etcd-3:2379"}
		// So that a connection whose other end is gone without a word is noticed.
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	s, err := etcd.Open(ctx, client, "builds", etcd.WithLimit(3), etcd.WithLabel("build 4711"))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close() // before the client
	p, err := s.Acquire(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Release()
	for step := range 2 {
		if err := p.Err(); errors.Is(err, semaphore.ErrLost) {
			log.Fatal("lost: others may be at work")
		}
		fmt.Println("step", step)
	}
}

// What is in the same store is written by a transaction that only a holder gets through, however late it comes.
func ExampleGuard() {
	ctx := context.Background()
	client := connect()
	defer client.Close()
	s, err := etcd.Open(ctx, client, "leader")
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	p, err := s.Acquire(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Release()

	guard, err := etcd.Guard(p)
	if err != nil {
		log.Fatal(err)
	}
	resp, err := client.Txn(ctx).If(guard).Then(clientv3.OpPut("settings", "new")).Commit()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("written by a holder:", resp.Succeeded)
	if err := p.Release(); err != nil {
		log.Fatal(err)
	}
	resp, err = client.Txn(ctx).If(guard).Then(clientv3.OpPut("settings", "old")).Commit()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("written later:", resp.Succeeded)
}

// A step that takes a while is only begun if nobody else can come meanwhile.
func ExampleLeft() {
	ctx := context.Background()
	client := connect()
	defer client.Close()
	s, err := etcd.Open(ctx, client, "deploy", etcd.WithTTL(10*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	p, err := s.Acquire(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Release()
	if etcd.Left(p) > time.Second {
		fmt.Println("does what takes a second")
	}
}

// An operator looks at all semaphores, and at their holders and waiters, changes a limit, and removes what nobody uses.
func ExampleObserve() {
	ctx := context.Background()
	client := connect()
	defer client.Close()
	at := etcd.WithPrefix("example/" + etcd.DefaultPrefix)
	s, err := etcd.Open(ctx, client, "tests", at, etcd.WithLimit(2), etcd.WithExclusive(true))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	p, err := s.Acquire(ctx)
	if err != nil {
		log.Fatal(err)
	}

	names, err := etcd.Names(ctx, client, at)
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range names {
		view, err := etcd.Observe(ctx, client, name, at)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %d of %d are free\n", name, view.Free, view.Limit)
		for _, h := range view.Holders {
			fmt.Println("held by this process:", h.PID == os.Getpid())
		}
	}
	if err := s.SetLimit(5); err != nil { // now programs that say WithLimit(2) get 5, without an error
		log.Fatal(err)
	}
	if err := etcd.ForgetLimit(ctx, client, "tests", at); err != nil { // and now they set it again
		log.Fatal(err)
	}
	fmt.Println("in use:", errors.Is(s.Unlink(), etcd.ErrInUse))
	if err := p.Release(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("removed:", s.Unlink() == nil)
}

// A limit that its operator has made, with a longer time for holders that are out of touch with the store. If the program
// is ended by a signal it gives back, and others need not wait for the end of its lease.
func ExampleWithTTL() {
	ctx := context.Background()
	client := connect()
	defer client.Close()
	s, err := etcd.Open(ctx, client, "made-by-nobody",
		etcd.WithCreate(false),
		etcd.WithTTL(30*time.Second),
		etcd.WithLossDelay(40*time.Second),
		etcd.WithOptions(semaphore.WithCloseOnExit(true), semaphore.WithLogger(slog.Default())))
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Println("the operator has to make it first")
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
}
