// Package etcdtest starts etcd servers for tests.
package etcdtest

import (
	"bytes"
	"context"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Variable names the server's program; without it that is etcd, in PATH.
const Variable = "SEMAPHORE_ETCD"

// Deadline is how long a test waits for what has to happen.
var Deadline time.Duration

func init() {
	flag.DurationVar(&Deadline, "hang", 30*time.Second, "how long tests wait for what has to happen")
}

// A Server is one that runs until the test ends.
type Server struct {
	Address string // host and port
	Process *os.Process
}

// Start starts a server with those flags beside its own. The test is skipped if there is no program.
func Start(t testing.TB, flags ...string) *Server {
	t.Helper()
	s := StartSilently(t, "http", flags...)
	client := Connect(t, s.Address)
	Eventually(t, "an answer of etcd", func(ctx context.Context) bool {
		_, err := client.Get(ctx, "x")
		return err == nil
	})
	return s
}

// StartSilently is Start of a server that is not asked whether it is there.
func StartSilently(t testing.TB, scheme string, flags ...string) *Server {
	t.Helper()
	path := os.Getenv(Variable)
	if path == "" {
		path = "etcd"
	}
	path, err := exec.LookPath(path)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("missing: etcd")
	} else if err != nil {
		t.Skip("missing: etcd; " + Variable + " names the program")
	}
	client, peer := freeAddress(t), "http://"+freeAddress(t)
	cmd := exec.Command(path, append([]string{"--data-dir", filepath.Join(t.TempDir(), "data"),
		"--listen-client-urls", scheme + "://" + client, "--advertise-client-urls", scheme + "://" + client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer, "--log-level", "error"}, flags...)...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() && log.Len() > 0 {
			t.Logf("etcd says: %s", &log)
		}
	})
	return &Server{client, cmd.Process}
}

func freeAddress(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Connect returns a client of a server.
func Connect(t testing.TB, address string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Eventually waits until is returns true. The context that is gets ends soon, so that it can ask once more.
func Eventually(t testing.TB, what string, is func(ctx context.Context) bool) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		yes := is(ctx)
		cancel()
		if yes {
			return
		}
		if time.Since(start) > Deadline {
			t.Fatalf("not within %v: %s", Deadline, what)
		}
	}
}
