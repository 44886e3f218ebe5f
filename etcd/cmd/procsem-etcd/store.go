package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/etcd"
	"github.com/procsem/semaphore/internal/command"
)

// A store is the semaphores below a prefix.
type store struct {
	client *clientv3.Client
	ttl    time.Duration
	opts   []etcd.Option
}

// mostPatience is how long a look waits for an answer, though a holder may be out of touch for longer.
const mostPatience = 5 * time.Second

func connect(at command.Address) (command.Store, error) {
	config := clientv3.Config{
		Username: at.User,
		Password: at.Password,
		Logger:   zap.NewNop(), // what fails is said in the command's own words
		// It waits only to log in as the user.
		DialTimeout: min(at.TTL, mostPatience),
		// A connection whose other end is gone without a word is found out by these.
		DialKeepAliveTime:    at.TTL / 2,
		DialKeepAliveTimeout: at.TTL / 2,
	}
	for _, host := range at.Hosts {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), "2379") // of an address of IPv6
		}
		config.Endpoints = append(config.Endpoints, host)
	}
	if at.TLS {
		var err error
		if config.TLS, err = tlsOf(at); err != nil {
			return nil, err
		}
	}
	client, err := clientv3.New(config)
	switch {
	case errors.Is(err, rpctypes.ErrAuthFailed):
		return nil, fmt.Errorf("%w: %w", fs.ErrPermission, err)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("no answer of etcd for %v", config.DialTimeout)
	case err != nil:
		return nil, err
	}
	s := &store{client: client, ttl: at.TTL}
	if at.Prefix != "" {
		s.opts = append(s.opts, etcd.WithPrefix(at.Prefix))
	}
	return s, nil
}

func tlsOf(at command.Address) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if at.CACert != "" {
		text, err := os.ReadFile(at.CACert)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: it has no certificates", at.CACert)
		}
	}
	if at.Cert != "" {
		pair, err := tls.LoadX509KeyPair(at.Cert, at.Key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (s *store) with(opts ...etcd.Option) []etcd.Option {
	return append(s.opts[:len(s.opts):len(s.opts)], opts...)
}

func (s *store) Open(ctx context.Context, name string, o command.StoreOptions) (*semaphore.Semaphore, error) {
	opts := s.with(etcd.WithTTL(s.ttl), etcd.WithCreate(o.Create), etcd.WithExclusive(o.Exclusive), etcd.WithLabel(o.Label))
	if o.Limit != 0 {
		opts = append(opts, etcd.WithLimit(o.Limit))
	}
	return etcd.Open(ctx, s.client, name, opts...)
}

func (s *store) looking() []etcd.Option { return s.with(etcd.WithTTL(min(s.ttl, mostPatience))) }

func (s *store) Observe(ctx context.Context, name string) (command.Stored, error) {
	v, err := etcd.Observe(ctx, s.client, name, s.looking()...)
	return command.Stored(v), err
}

func (s *store) Names(ctx context.Context) ([]string, error) {
	return etcd.Names(ctx, s.client, s.looking()...)
}

func (s *store) ForgetLimit(ctx context.Context, name string) error {
	return etcd.ForgetLimit(ctx, s.client, name, s.looking()...)
}

func (s *store) Left(p *semaphore.Permit) time.Duration { return etcd.Left(p) }

func (s *store) InUse(err error) bool { return errors.Is(err, etcd.ErrInUse) }
