//go:build unix

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	. "github.com/procsem/semaphore/etcd/internal/etcdtest"
)

// The least rights: to read and to write what begins with the prefix.
func TestUser(t *testing.T) {
	s := newShop(t)
	c := Connect(t, s.server.Address)
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.UserAdd(ctx, "root", "r"))
	must(c.UserGrantRole(ctx, "root", "root"))
	must(c.RoleAdd(ctx, "limits"))
	must(c.RoleGrantPermission(ctx, "limits", "tests/", clientv3.GetPrefixRangeEnd("tests/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	must(c.UserAdd(ctx, "anna", "pass:word"))
	must(c.UserGrantRole(ctx, "anna", "limits"))
	must(c.UserAdd(ctx, "bert", "b"))
	must(c.AuthEnable(ctx))

	s.expect(0, "in\n", "", "run", "--user", "anna:pass:word", "-n", "1", "x", "echo", "in")
	s.env = []string{"ETCDCTL_USER=anna", "ETCDCTL_PASSWORD=pass:word"}
	s.expect(0, "", "", "resize", "x", "2")
	s.expect(0, "", "", "run", "-k", "2", "x", "true")
	s.expect(0, "NAME  KIND  LIMIT  FREE  HOLDERS  WAITING\nx     etcd  2      2     0        0\n", "", "list")
	s.expect(0, "", "", "unlink", "x")
	s.env = []string{"ETCDCTL_USER=bert:b"}
	s.expect(77, "", "permission denied", "run", "x", "true")
	s.expect(77, "", "permission denied", "list")
	s.env = nil
	s.expect(77, "", "user name is empty", "list")
	s.expect(77, "", "authentication failed", "list", "--user", "anna:wrong")
	stop(t, s.server, func() {
		s.expect(71, "", "no answer of etcd for 1s", "list", "--ttl", "1", "--user", "anna:pass:word")
	})
}

// Without the right certificates, in either direction, there is no connection.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	in := func(file string) string { return filepath.Join(dir, file) }
	ca, caKey := authority(t, in("ca.crt"))
	issue(t, ca, caKey, in("server"))
	issue(t, ca, caKey, in("client"))
	authority(t, in("other.crt"))
	server := StartSilently(t, "https", "--cert-file", in("server.crt"), "--key-file", in("server.key"), "--client-cert-auth", "--trusted-ca-file", in("ca.crt"))
	s := &shop{t: t, server: server, store: "etcds://" + server.Address}
	certificates := []string{"--cacert", in("ca.crt"), "--cert", in("client.crt"), "--key", in("client.key")}
	Eventually(t, "an answer", func(context.Context) bool {
		status, _, _ := s.call(append([]string{"list"}, certificates...)...)
		return status == 0
	})
	s.expect(0, "in\n", "", append(append([]string{"run"}, certificates...), "x", "echo", "in")...)
	s.env = []string{"ETCDCTL_CACERT=" + in("ca.crt"), "ETCDCTL_CERT=" + in("client.crt"), "ETCDCTL_KEY=" + in("client.key")}
	s.expect(0, "1\n", "", "value", "x")
	s.expect(71, "", "no answer of etcd for 1s", "value", "--ttl", "1", "--cacert", in("other.crt"), "x")
	s.env = []string{"ETCDCTL_CACERT=" + in("ca.crt")}
	s.expect(71, "", "no answer of etcd for 1s", "value", "--ttl", "1", "x")
	s.expect(66, "", "none.crt", "value", "--cacert", in("none.crt"), "x")
	s.expect(71, "", "it has no certificates", "value", "--cacert", in("client.key"), "x")
}

// authority makes a certificate of one, in a file.
func authority(t *testing.T, file string) (*x509.Certificate, *ecdsa.PrivateKey) {
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "tests"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	key := sign(t, c, nil, nil, file, "")
	return c, key
}

// issue makes a certificate, in NAME.crt and NAME.key.
func issue(t *testing.T, by *x509.Certificate, byKey *ecdsa.PrivateKey, name string) {
	sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "tests"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, by, byKey, name+".crt", name+".key")
}

// sign completes a certificate and writes it, and its key; by itself if by is nil.
func sign(t *testing.T, c, by *x509.Certificate, byKey *ecdsa.PrivateKey, file, keyFile string) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by, byKey = c, key
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, byKey)
	if err == nil {
		err = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	}
	if err == nil && keyFile != "" {
		var text []byte
		if text, err = x509.MarshalPKCS8PrivateKey(key); err == nil {
			err = os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}), 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}
