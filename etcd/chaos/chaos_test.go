package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/etcd"
)

var (
	duration = flag.Duration("chaos.duration", 100*time.Second, "how long a run takes")
	workers  = flag.Int("chaos.workers", 8, "how many processes take and give")
	quiet    = flag.Bool("chaos.quiet", false, "no faults")
	only     = flag.String("chaos.only", "", "only this fault")
)

func TestMain(m *testing.M) {
	if text := os.Getenv(planVariable); text != "" {
		fmt.Fprintln(os.Stderr, work(text))
		os.Exit(1)
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Getenv(netVariable) != "" {
		return m.Run()
	}
	if os.Getenv(serverVariable) == "" { // built before the network is gone
		dir, err := os.MkdirTemp("", "semaphore-test-*")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "etcd")
		if out, err := exec.Command("go", "build", "-o", path, "go.etcd.io/etcd/server/v3").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building etcd: %v\n%s", err, out)
			return 1
		}
		os.Setenv(serverVariable, path)
	}
	if os.Getuid() == 0 {
		if status, did := inNamespace(); did {
			return status
		}
	}
	return m.Run()
}

// serverVariable names the server's program; without it, it is built.
const serverVariable = "SEMAPHORE_ETCD"

const (
	ttl   = 3 * time.Second
	delay = 5 * time.Second
	limit = 3
)

// A cluster is three servers on this machine.
type cluster struct {
	t       *testing.T
	path    string
	net     bool // there are links
	dirs    [3]string
	clients [3]string
	peers   [3]string
	mu      sync.Mutex
	procs   [3]*exec.Cmd
}

func address(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, path: os.Getenv(serverVariable), net: hasNet(t)}
	for i := range 3 {
		c.dirs[i], c.clients[i], c.peers[i] = t.TempDir(), address(t), address(t)
	}
	for i := range 3 {
		c.start(i)
	}
	t.Cleanup(func() {
		for i := range 3 {
			c.kill(i)
		}
	})
	return c
}

func (c *cluster) start(i int) {
	var all []string
	for j, p := range c.peers {
		all = append(all, fmt.Sprintf("s%d=http://%s", j, p))
	}
	listen := "http://" + c.clients[i]
	if c.net {
		listen += ",http://" + c.outside(i)
	}
	cmd := exec.Command(c.path, "--name", fmt.Sprint("s", i), "--data-dir", c.dirs[i], "--listen-client-urls", listen, "--advertise-client-urls", "http://"+c.clients[i],
		"--listen-peer-urls", "http://"+c.peers[i], "--initial-advertise-peer-urls", "http://"+c.peers[i], "--initial-cluster", strings.Join(all, ","), "--log-level", "fatal")
	if err := cmd.Start(); err != nil {
		c.t.Error(err)
		return
	}
	c.mu.Lock()
	c.procs[i] = cmd
	c.mu.Unlock()
}

// outside returns the address of a server for workers, which are behind links.
func (c *cluster) outside(i int) string {
	_, port, _ := net.SplitHostPort(c.clients[i])
	return net.JoinHostPort(serversAddress, port)
}

func (c *cluster) kill(i int) {
	c.mu.Lock()
	cmd := c.procs[i]
	c.procs[i] = nil
	c.mu.Unlock()
	if cmd != nil {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

func (c *cluster) signal(i int, sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.procs[i] != nil {
		c.procs[i].Process.Signal(sig)
	}
}

// leader returns which server leads, or -1.
func (c *cluster) leader(client *clientv3.Client) int {
	for i := range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		st, err := client.Status(ctx, c.clients[i])
		cancel()
		if err == nil && st.Leader == st.Header.MemberId {
			return i
		}
	}
	return -1
}

// A team is the workers.
type team struct {
	t     *testing.T
	plan  string
	net   bool
	mu    sync.Mutex
	procs map[int]*exec.Cmd
	ended sync.WaitGroup
	lines []line
	next  int
}

type line struct {
	worker int
	record
}

func (m *team) start() {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), planVariable+"="+m.plan)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if m.net {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.next++
	w := m.next
	if m.net {
		link(m.t, w, cmd.Process.Pid)
	}
	in.Close() // it begins
	m.mu.Lock()
	m.procs[w] = cmd
	m.mu.Unlock()
	m.ended.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var r record
			if json.Unmarshal(lines.Bytes(), &r) != nil {
				continue // cut off by a kill
			}
			m.mu.Lock()
			m.lines = append(m.lines, line{w, r})
			m.mu.Unlock()
		}
		cmd.Wait()
	})
}

// any returns one of the workers.
func (m *team) any() (w int, cmd *exec.Cmd) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := rand.IntN(len(m.procs))
	for w, cmd = range m.procs {
		if i == 0 {
			break
		}
		i--
	}
	return w, cmd
}

func (m *team) kill(w int, cmd *exec.Cmd) {
	cmd.Process.Kill()
	m.mu.Lock()
	delete(m.procs, w)
	m.mu.Unlock()
}

// What is inside, as the workers tell, is at no moment more than the limit allowed when the last one came in.
func TestChaos(t *testing.T) {
	c := newCluster(t)
	client, err := clientv3.New(clientv3.Config{Endpoints: c.clients[:], DialTimeout: 2 * time.Second, DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	names := []string{"one", "two"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, name := range names {
		open := func() (*semaphore.Semaphore, error) {
			return etcd.Open(ctx, client, name, etcd.WithLimit(limit), etcd.WithTTL(ttl), etcd.WithLossDelay(delay))
		}
		s, err := open()
		for err != nil && ctx.Err() == nil { // the servers have just been started, and have to elect a leader
			t.Log(err)
			time.Sleep(100 * time.Millisecond)
			s, err = open()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	endpoints := c.clients[:]
	if c.net {
		endpoints = []string{c.outside(0), c.outside(1), c.outside(2)}
	}
	text, _ := json.Marshal(plan{Endpoints: endpoints, Names: names, TTL: ttl, Delay: delay, Limit: limit})
	m := &team{t: t, plan: string(text), net: c.net, procs: make(map[int]*exec.Cmd)}
	for range *workers {
		m.start()
	}
	var resizes []operation
	did := make(map[string]int)
	faults := map[string]func(){
		"server killed": func() {
			i := rand.IntN(3)
			c.kill(i)
			time.Sleep(time.Duration(rand.Int64N(int64(2 * time.Second))))
			c.start(i)
		},
		"server stopped": func() {
			i := rand.IntN(3)
			c.signal(i, syscall.SIGSTOP)
			time.Sleep(500*time.Millisecond + time.Duration(rand.Int64N(int64(4*time.Second))))
			c.signal(i, syscall.SIGCONT)
		},
		"leader stopped": func() {
			if i := c.leader(client); i >= 0 {
				c.signal(i, syscall.SIGSTOP)
				time.Sleep(1500*time.Millisecond + time.Duration(rand.Int64N(int64(3500*time.Millisecond))))
				c.signal(i, syscall.SIGCONT)
			}
		},
		"all killed": func() {
			for i := range 3 {
				c.kill(i)
			}
			time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
			for i := range 3 {
				c.start(i)
			}
		},
		"worker killed": func() {
			m.kill(m.any())
			m.start()
		},
		"worker stopped": func() {
			_, cmd := m.any()
			cmd.Process.Signal(syscall.SIGSTOP)
			time.Sleep(time.Duration(rand.Int64N(int64(2*ttl + delay))))
			cmd.Process.Signal(syscall.SIGCONT)
		},
		"resized": func() {
			name := names[rand.IntN(len(names))]
			n := 1 + rand.IntN(4)
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			s, err := etcd.Open(ctx, client, name, etcd.WithTTL(ttl), etcd.WithLossDelay(delay))
			if err != nil {
				return
			}
			defer s.Close()
			began := monotonic()
			// One that has failed may have come to pass, or still do.
			ended := int64(math.MaxInt64 / 2)
			if err := s.SetLimit(n); err == nil {
				ended = monotonic()
			}
			m.mu.Lock()
			resizes = append(resizes, operation{name, call{what: "resize", n: n}, began, ended, 1_000_000})
			m.mu.Unlock()
		},
	}
	if c.net {
		faults["worker cut off"] = func() {
			w, _ := m.any()
			network(t, 0, fmt.Sprintf("link set w%d down", w))
			time.Sleep(time.Duration(rand.Int64N(int64(2*ttl + delay))))
			network(t, 0, fmt.Sprintf("link set w%d up", w))
		}
	}
	var kinds []string
	for what := range faults {
		if *only == "" || *only == what {
			kinds = append(kinds, what)
		}
	}
	slices.Sort(kinds)
	for end := time.Now().Add(*duration); time.Now().Before(end); {
		if *quiet {
			time.Sleep(time.Second)
			continue
		}
		what := kinds[rand.IntN(len(kinds))]
		faults[what]()
		did[what]++
		time.Sleep(time.Duration(rand.Int64N(int64(2 * time.Second))))
	}
	for len(m.procs) > 0 {
		m.kill(m.any())
	}
	m.ended.Wait()
	t.Log(did)
	m.check(resizes)
}

// An operation is one of the history.
type operation struct {
	name         string
	call         call
	began, ended int64
	client       int
}

type call struct {
	what string // acquire, release, resize
	n    int
}

// check makes the history, and checks that a semaphore can have behaved so.
func (m *team) check(ops []operation) {
	t := m.t
	type key struct {
		worker, id int
	}
	type hold struct {
		name               string
		n                  int
		asked, held, valid int64
		leaves, left       int64
	}
	holds := make(map[key]*hold)
	errors := make(map[string]int)
	counts := make(map[string]int)
	for _, l := range m.lines {
		k := key{l.worker, l.ID}
		h := holds[k]
		if what, _, is := strings.Cut(l.What, ":"); is {
			errors[what+": "+l.What[strings.LastIndex(l.What, ":")+1:]]++
			continue
		}
		counts[l.What]++
		switch l.What {
		case "asks":
			holds[k] = &hold{name: l.Name, n: l.N, asked: l.At}
		case "holds":
			h.held, h.valid = l.At, l.At
		case "inside":
			h.valid = l.At
		case "lost":
			h.valid = max(h.valid, l.At)
		case "leaves":
			h.leaves, h.valid = l.At, l.At
		case "left":
			h.left = l.At
		}
	}
	for k, h := range holds {
		if h.held == 0 {
			continue
		}
		client := k.worker
		ops = append(ops, operation{h.name, call{what: "acquire", n: h.n}, h.asked, h.held, client})
		end := operation{h.name, call{what: "release", n: h.n}, h.valid, h.left, client}
		if h.left == 0 { // lost, or killed: it frees as early as it can have
			end.ended = end.began + 1
		}
		if end.began <= h.held {
			end.began, end.ended = h.held+1, max(end.ended, h.held+2)
		}
		ops = append(ops, end)
	}
	t.Log(counts)
	if os.Getenv("DUMP") != "" {
		for k, h := range holds {
			if h.held > 0 {
				fmt.Printf("%s w%d.%d n=%d asked %d held %d..%d left %v\n", h.name, k.worker, k.id, h.n, h.asked/1e6, h.held/1e6, h.valid/1e6, h.left > 0)
			}
		}
	}
	for what, n := range errors {
		t.Log(n, "times", what)
	}
	byName := make(map[string][]porcupine.Operation)
	for _, o := range ops {
		byName[o.name] = append(byName[o.name], porcupine.Operation{ClientId: o.client, Input: o.call, Call: o.began, Return: o.ended})
	}
	for name, history := range byName {
		began := time.Now()
		result, _ := porcupine.CheckOperationsVerbose(model, history, 10*time.Minute)
		t.Logf("%s: %d operations: %v, in %v", name, len(history), result, time.Since(began))
		if result != porcupine.Ok {
			t.Errorf("%s: no semaphore behaves so: %v", name, result)
		}
	}
	if counts["holds"] < int(duration.Seconds())/5 {
		t.Errorf("only %d acquisitions: too little has happened to tell", counts["holds"])
	}
}

// model is a semaphore's.
var model = porcupine.Model{
	Init: func() any { return [3]int{limit, 0, 0} }, // the limit, what is held, and what one holds that has all
	Step: func(s, input, _ any) (bool, any) {
		st, c := s.([3]int), input.(call)
		switch {
		case c.what == "resize":
			st[0] = c.n
		case c.what == "acquire" && c.n < 0:
			if st[1] != 0 || st[0] == 0 {
				return false, st
			}
			st[1], st[2] = st[0], st[0]
		case c.what == "acquire":
			if st[1]+c.n > st[0] {
				return false, st
			}
			st[1] += c.n
		case c.n < 0:
			st[1], st[2] = st[1]-st[2], 0
		default:
			st[1] -= c.n
		}
		return true, st
	},
	Equal: func(a, b any) bool { return a == b },
}
