package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/driver"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// With --store, or PROCSEM_STORE, all names are those of semaphores in a store on several machines. The client of such a store
// would double the time in which every procsem starts, so it is in a program of its own, procsem-etcd, with the same
// commands and options: procsem becomes it.

// A Store keeps semaphores for several machines. All methods are safe for concurrent use, and return the errors of package
// semaphore, or the store's own when it does not answer.
type Store interface {
	Open(ctx context.Context, name string, o StoreOptions) (*semaphore.Semaphore, error)
	// Observe looks at a semaphore without being a user of it.
	Observe(ctx context.Context, name string) (Stored, error)
	Names(ctx context.Context) ([]string, error)
	// ForgetLimit takes back that SetLimit has set the limit.
	ForgetLimit(ctx context.Context, name string) error
	// Left returns for how long a permit is surely held if nothing is heard of the store any more, 0 if it is lost.
	Left(*semaphore.Permit) time.Duration
	// InUse reports whether Unlink has failed because the semaphore is in use.
	InUse(error) bool
}

// StoreOptions say how a semaphore in a store is opened.
type StoreOptions struct {
	Create    bool // if it does not exist
	Exclusive bool // it must not exist
	Limit     int  // 0: whatever it is, and 1 for a new one
	Label     string
}

// Stored is a semaphore in a store as it was at one moment.
type Stored struct {
	Limit, Free int
	Holders     []driver.Holder
}

// An Address is what --store and the options beside it say.
type Address struct {
	Scheme            string // "etcd", say
	TLS               bool
	Hosts             []string // with ports, if they have any
	Prefix            string   // where the semaphores are, without slashes around it; "": the usual place
	CACert, Cert, Key string   // paths
	User, Password    string
	TTL               time.Duration // for how long a permit is held by a process that is out of touch with the store
}

const (
	storeFlag     = "store"
	caCertFlag    = "cacert"
	certFlag      = "cert"
	keyFlag       = "key"
	userFlag      = "user"
	ttlFlag       = "ttl"
	storeVariable = "PROCSEM_STORE"
)

// stores are the programs for stores by the schemes of their addresses. With an s the connection is encrypted.
var stores = map[string]string{"etcd": "procsem-etcd"}

// connect is what this program makes stores with; nil in procsem itself, which becomes another program for that.
var connect func(Address) (Store, error)

// cluster is the store, nil without one. Like directory it is one for the process.
var (
	cluster   Store
	clusterAt Address
	clusterBy string // as it was given
)

// MainWith is Main of a program that uses a store, and nothing else.
func MainWith(to func(Address) (Store, error)) int {
	connect = to
	return Main()
}

func storeOptions(flags *pflag.FlagSet) {
	flags.String(storeFlag, "", "use the semaphores in a store on several machines, at `URL`: etcd://HOST[:PORT][,HOST...][/PREFIX], or etcds:// with TLS (default: $"+storeVariable+")")
	flags.String(caCertFlag, "", "with --store: trust the servers that the certificates in `FILE` vouch for (default: $ETCDCTL_CACERT, else the system's)")
	flags.String(certFlag, "", "with --store: identify by the certificate in `FILE` (default: $ETCDCTL_CERT)")
	flags.String(keyFlag, "", "with --store: the key of that certificate is in `FILE` (default: $ETCDCTL_KEY)")
	flags.String(userFlag, "", "with --store: be the user `NAME[:PASSWORD]` (default: $ETCDCTL_USER, and $ETCDCTL_PASSWORD)")
	flags.String(ttlFlag, "5", "with --store: hold on to permits for `TIME` while the store is not to be reached")
}

// storeless are the commands that use no semaphores.
func storeless(cmd *cobra.Command) bool {
	return !cmd.HasParent() || slices.Contains([]string{"completion", "man", "help", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}, cmd.Name())
}

// chooseStore sets cluster, or becomes the program that does.
func (inv *invocation) chooseStore(cmd *cobra.Command) error {
	cluster = nil
	if storeless(cmd) {
		return nil
	}
	url, from := os.Getenv(storeVariable), storeVariable
	if cmd.Flags().Changed(storeFlag) {
		url, from = text(cmd, storeFlag), "--"+storeFlag
	} else if cmd.Flags().Changed(dirFlag) && connect == nil {
		url = "" // what is said here counts more
	}
	if url == "" {
		switch given := givenOf(cmd, caCertFlag, certFlag, keyFlag, userFlag, ttlFlag); {
		case connect != nil:
			return usageError(cmd.CommandPath(), "neither --store nor %s says where the store is", storeVariable)
		case given != "":
			return usageError(cmd.CommandPath(), "--%s without a store, by --store or %s", given, storeVariable)
		}
		return nil
	}
	at, err := addressOf(cmd, url, from)
	if err != nil {
		return err
	}
	if err := refused(cmd, from); err != nil {
		return err
	}
	if connect == nil {
		return becomeClient(stores[at.Scheme], inv.args)
	}
	clusterAt, clusterBy = at, url
	if cluster, err = connect(at); err != nil {
		return &failure{statusOf(err), fmt.Errorf("%s %s: %w", from, url, err)}
	}
	return nil
}

// givenOf returns the first of these flags that was given, "" if none was.
func givenOf(cmd *cobra.Command, flags ...string) string {
	for _, flag := range flags {
		if cmd.Flags().Changed(flag) {
			return flag
		}
	}
	return ""
}

func addressOf(cmd *cobra.Command, url, from string) (a Address, err error) {
	if before, after, is := strings.Cut(url, "@"); is { // a password, perhaps, which is not to be printed
		scheme, _, _ := strings.Cut(before, "://")
		return a, usageError(cmd.CommandPath(), "%s %s://...@%s: the user is said by --user, or ETCDCTL_USER and ETCDCTL_PASSWORD", from, scheme, after)
	}
	const form = "etcd://HOST[:PORT][,HOST...][/PREFIX], or etcds:// with TLS"
	wrong := func(what string) (Address, error) {
		return a, usageError(cmd.CommandPath(), "%s %q: %s; %s is allowed", from, url, what, form)
	}
	scheme, rest, is := strings.Cut(url, "://")
	if !is {
		return wrong("it has no ://")
	}
	if a.Scheme = scheme; stores[scheme] == "" {
		a.Scheme, a.TLS = strings.TrimSuffix(scheme, "s"), true
	}
	if stores[a.Scheme] == "" {
		return wrong(fmt.Sprintf("%q is no store that procsem knows", scheme))
	}
	hosts, prefix, _ := strings.Cut(rest, "/")
	for host := range strings.SplitSeq(hosts, ",") {
		if host == "" || strings.ContainsAny(host, "?# ") {
			return wrong(fmt.Sprintf("%q is no host", host))
		}
		a.Hosts = append(a.Hosts, host)
	}
	a.Prefix = strings.Trim(prefix, "/")
	for _, of := range []struct {
		flag, variable string
		to             *string
	}{
		{caCertFlag, "ETCDCTL_CACERT", &a.CACert}, {certFlag, "ETCDCTL_CERT", &a.Cert}, {keyFlag, "ETCDCTL_KEY", &a.Key},
		{userFlag, "ETCDCTL_USER", &a.User}, {"", "ETCDCTL_PASSWORD", &a.Password},
	} {
		*of.to = os.Getenv(of.variable)
		if of.flag != "" && cmd.Flags().Changed(of.flag) {
			*of.to = text(cmd, of.flag)
		}
	}
	a.TLS = a.TLS || a.CACert != "" || a.Cert != "" || a.Key != ""
	if (a.Cert == "") != (a.Key == "") {
		return a, usageError(cmd.CommandPath(), "--cert %q and --key %q: both are needed, or none", a.Cert, a.Key)
	}
	if name, password, both := strings.Cut(a.User, ":"); both {
		a.User, a.Password = name, password
	}
	if a.User != "" && a.Password == "" {
		return a, usageError(cmd.CommandPath(), "the user %q without a password: --user NAME:PASSWORD, or ETCDCTL_PASSWORD", a.User)
	}
	if a.TTL, err = parsed(cmd, ttlFlag, parseTime); err == nil && a.TTL < time.Second {
		err = usageError(cmd.CommandPath(), "--ttl %s: 1 second at least is allowed", text(cmd, ttlFlag))
	}
	return a, err
}

// refused returns why a command, or an option, means nothing with a store.
func refused(cmd *cobra.Command, from string) error {
	wrong := func(what, why string) error {
		return usageError(cmd.CommandPath(), "%s and %s (use --store \"\" for the semaphores of this machine): %s", what, from, why)
	}
	switch cmd.Name() {
	case "path", "lock", "unlock":
		return wrong(cmd.Name(), "a semaphore in a store is in no file that could be open")
	case "try", "post":
		return wrong(cmd.Name(), "a permit of a store can be lost, and nobody would be there to be told")
	case "wait":
		if !isSet(cmd, idleFlag) {
			return wrong("wait without --idle", "a permit of a store can be lost, and nobody would be there to be told")
		}
	}
	for _, of := range []struct{ flag, why string }{
		{dirFlag, "a semaphore is in a directory of this machine or in a store"},
		{posixFlag, "POSIX semaphores are those of one machine"},
		{noForkFlag, "without procsem nobody would hold on to the permit"},
		{modeFlag, "who may use a semaphore is up to the store, by its users and roles"},
		{everyFlag, "the time of the last start is kept in a file, for one machine"},
		{fromFlag, "the file's lines have modes and owners, which a store does not have"},
		{forceFlag, "whoever came next would be let in beside those who use the semaphore"},
	} {
		if f := cmd.Flags().Lookup(of.flag); f != nil && f.Changed && f.Value.String() != "false" {
			return wrong(optionOf(f), of.why)
		}
	}
	return nil
}

// openStored opens the semaphore in the store.
func (o opener) openStored(ctx context.Context, exclusive bool) (*semaphore.Semaphore, error) {
	opts := StoreOptions{Create: true, Exclusive: exclusive, Label: o.label}
	if o.limited || exclusive {
		opts.Limit = o.limit
	}
	s, err := cluster.Open(ctx, o.name, opts)
	return s, o.advise(err)
}

// isMade is exists, also in the store, which may not answer.
func (o opener) isMade(w *watcher) (bool, error) {
	if cluster == nil {
		return o.exists(), nil
	}
	_, err := observeUnlessSignalled(o.name, w)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// observeUnlessSignalled is observe of a store that may not answer.
func observeUnlessSignalled(name string, w *watcher) (observation, error) {
	if cluster == nil {
		return observe(name)
	}
	return unlessSignalled(w, func(ctx context.Context) (observation, error) { return observeStoredUntil(ctx, name) }, func(observation) error { return nil })
}

// bury has what lost holders hold come back when it is time, if nobody else is there to see to that. It opens the semaphore once, as it is
// the same handle that has to see the loss and the end of the delay.
func bury(o observation, w *watcher, by **semaphore.Semaphore) error {
	if slices.ContainsFunc(o.Handles, func(h engine.ObservedHandle) bool { return !h.Lost }) {
		return nil
	}
	if *by == nil {
		var err error
		if *by, err = unlessSignalled(w, func(ctx context.Context) (*semaphore.Semaphore, error) {
			return cluster.Open(ctx, o.name, StoreOptions{})
		},
			(*semaphore.Semaphore).Close); err != nil {
			return err
		}
	}
	// All are not free as long as lost holders have some.
	p, err := orSignal(w, func() (*semaphore.Permit, error) { return (*by).TryAcquireN(semaphore.All) })
	if err == nil {
		return p.Release()
	}
	if errors.Is(err, semaphore.ErrWouldBlock) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// openStoredPatiently is openPatiently in the store, which may not answer.
func openStoredPatiently(o opener, p patience, w *watcher) (*semaphore.Semaphore, error) {
	return unlessSignalled(w, func(ctx context.Context) (*semaphore.Semaphore, error) {
		if p.limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, p.limit)
			defer cancel()
		}
		s, err := o.openStored(ctx, false)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
			err = p.gaveUp("no permit of %q within %v: %s does not answer", o.name, p.asked, clusterBy)
		}
		return s, err
	}, (*semaphore.Semaphore).Close)
}

// observeStored is observe of what is in the store.
func observeStored(name string) (observation, error) {
	return observeStoredUntil(context.Background(), name)
}

func observeStoredUntil(ctx context.Context, name string) (observation, error) {
	seen, err := cluster.Observe(ctx, name)
	o := observation{engine.Observation{Value: seen.Free, Recoverable: true, Limit: seen.Limit}, clusterAt.Scheme, name}
	for i, h := range seen.Holders {
		handle := engine.ObservedHandle{Lost: h.Lost, Holder: engine.HolderInStore(h)}
		if h.Waiting { // they are in their order
			handle.Ticket, handle.Arrived = uint64(i)+1, h.Arrived
		}
		o.Handles = append(o.Handles, handle)
	}
	return o, err
}

// ownStored finds the entry of this process that waits, nil if it is not there.
func ownStored(o observation) *engine.ObservedHandle {
	host, err := os.Hostname()
	if err != nil {
		return nil
	}
	for i, h := range o.Handles {
		if h.Waiting && h.Host == host && h.PID == os.Getpid() {
			return &o.Handles[i]
		}
	}
	return nil
}

// storedSummaries is summaries of the store.
func storedSummaries() ([]summary, error) {
	names, err := cluster.Names(context.Background())
	if err != nil {
		return nil, err
	}
	lines := []summary{}
	for _, name := range names {
		line := summary{Name: name, Base64: base64Of(name), Kind: clusterAt.Scheme}
		o, err := observeStored(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			line.Error = reason(err)
		default:
			line.counts(o)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// setStoredLimit is setLimit of what is in the store.
func setStoredLimit(name string, n int, asDefault bool) error {
	if asDefault {
		return cluster.ForgetLimit(context.Background(), name)
	}
	s, err := cluster.Open(context.Background(), name, StoreOptions{})
	if err != nil {
		return err
	}
	return errors.Join(s.SetLimit(n), s.Close())
}

// unlinkStored removes a name that nobody uses from the store.
func unlinkStored(name string) error {
	s, err := cluster.Open(context.Background(), name, StoreOptions{})
	if err != nil {
		return err
	}
	defer s.Close()
	err = s.Unlink()
	if cluster.InUse(err) {
		users := ""
		if o, err := observeStored(name); err == nil {
			users = ": " + usersOf(o)
		}
		return &failure{statusTempFail, fmt.Errorf("%q is in use%s", name, users)}
	}
	return err
}

// unlinkStoredIdle removes all names that nobody uses.
func (inv *invocation) unlinkStoredIdle() error {
	names, err := cluster.Names(context.Background())
	if err != nil {
		return err
	}
	return inv.each(names, func(name string) error {
		var busy *failure
		switch err := unlinkStored(name); {
		case err == nil:
			_, err = fmt.Fprintln(inv.stdout, printable(name))
			return err
		case errors.Is(err, fs.ErrNotExist), errors.As(err, &busy) && busy.status == statusTempFail:
			return nil
		default:
			return err
		}
	})
}
