package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An Authority signs certificates of one test. They hold for an hour, for 127.0.0.1 and no other name, for servers and clients.
type Authority struct {
	CAFile string // PEM

	tb   testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes one with a key of its own.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{tb: t, CAFile: filepath.Join(t.TempDir(), "ca.pem")}
	draft := a.draft("the authority of " + t.Name())
	draft.IsCA, draft.BasicConstraintsValid, draft.KeyUsage = true, true, x509.KeyUsageCertSign
	var der []byte
	der, a.key = a.sign(draft, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write(a.CAFile, "CERTIFICATE", der)
	return a
}

// Issue writes a certificate in that name and its key, over what was there.
func (a *Authority) Issue(name, certFile, keyFile string) {
	a.tb.Helper()
	draft := a.draft(name)
	draft.KeyUsage = x509.KeyUsageDigitalSignature
	draft.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	draft.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	der, key := a.sign(draft, a.cert)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.tb.Fatal(err)
	}
	a.write(certFile, "CERTIFICATE", der)
	a.write(keyFile, "PRIVATE KEY", secret)
}

// Pair issues a certificate in that name into a directory of its own.
func (a *Authority) Pair(name string) (certFile, keyFile string) {
	a.tb.Helper()
	dir := a.tb.TempDir()
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	a.Issue(name, certFile, keyFile)
	return certFile, keyFile
}

// Config is that of a client in that name.
func (a *Authority) Config(name string) *tls.Config {
	a.tb.Helper()
	pair, err := tls.LoadX509KeyPair(a.Pair(name))
	if err != nil {
		a.tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
}

func (a *Authority) draft(name string) *x509.Certificate {
	a.tb.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.tb.Fatal(err)
	}
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)}
}

// sign makes a key and its certificate; without a parent it signs itself.
func (a *Authority) sign(draft, parent *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.tb.Fatal(err)
	}
	by := a.key
	if parent == nil {
		parent, by = draft, key
	}
	der, err := x509.CreateCertificate(rand.Reader, draft, parent, key.Public(), by)
	if err != nil {
		a.tb.Fatal(err)
	}
	return der, key
}

func (a *Authority) write(path, kind string, der []byte) {
	a.tb.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.tb.Fatal(err)
	}
}
