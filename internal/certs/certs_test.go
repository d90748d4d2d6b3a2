package certs_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/certs"
	"allim/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// made is a pair in PEM.
type made struct {
	serial    int64
	end       time.Time
	cert, key []byte
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// makePair signs a certificate for localhost with its own key.
func makePair(t *testing.T, serial int64, key *ecdsa.PrivateKey) made {
	t.Helper()
	m := made{serial: serial, end: time.Now().Add(time.Duration(serial) * time.Hour).Truncate(time.Second)}
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: m.end}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	m.cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	m.key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	return m
}

// A disk has the two files.
type disk struct {
	t         *testing.T
	cert, key string
}

func newDisk(t *testing.T, m made) *disk {
	dir := t.TempDir()
	d := &disk{t, filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
	d.write(m.cert, m.key)
	return d
}

func (d *disk) write(cert, key []byte) {
	d.t.Helper()
	for name, text := range map[string][]byte{d.cert: cert, d.key: key} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *disk) load() *certs.Pair {
	d.t.Helper()
	p, err := certs.Load(d.cert, d.key)
	if err != nil {
		d.t.Fatal(err)
	}
	return p
}

// An echo says back what it hears, over TLS.
func echo(t *testing.T, p *certs.Pair) (addr string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", p.Config())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _, _ = io.Copy(c, c); _ = c.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

// dial is a new handshake, and the serial number of what the server showed.
func dial(t *testing.T, addr string) (*tls.Conn, int64) {
	t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr, &tls.Config{InsecureSkipVerify: true}) // which one it is, is what is asked
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func says(t *testing.T, c *tls.Conn, word string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	got := make([]byte, len(word))
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != word {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestNewHandshakesGetTheNewCertificateAndOpenConnectionsLiveOn(t *testing.T) {
	one, two := makePair(t, 1, newKey(t)), makePair(t, 2, newKey(t))
	d := newDisk(t, one)
	p := d.load()
	addr := echo(t, p)
	before, serial := dial(t, addr)
	if serial != 1 || !p.NotAfter().Equal(one.end) {
		t.Fatalf("got certificate %d until %v", serial, p.NotAfter())
	}
	if changed, err := p.Reload(); changed || err != nil {
		t.Fatalf("the same files: got %v, %v", changed, err)
	}
	d.write(two.cert, two.key)
	past := time.Now().Add(-24 * time.Hour) // older than what they replace, as with a link to an older folder
	for _, name := range []string{d.cert, d.key} {
		if err := os.Chtimes(name, past, past); err != nil {
			t.Fatal(err)
		}
	}
	if changed, err := p.Reload(); !changed || err != nil {
		t.Fatalf("new files: got %v, %v", changed, err)
	}
	after, serial := dial(t, addr)
	if serial != 2 || !p.NotAfter().Equal(two.end) {
		t.Errorf("got certificate %d until %v", serial, p.NotAfter())
	}
	says(t, before, "still here")
	says(t, after, "new here")
}

func TestFilesThatCanNotBeUsedChangeNothingAndAreNamed(t *testing.T) {
	key := newKey(t)
	one, renewed, other := makePair(t, 1, key), makePair(t, 2, key), makePair(t, 3, newKey(t))
	chain := append(bytes.Clone(renewed.cert), other.cert...)
	d := newDisk(t, one)
	p := d.load()
	addr := echo(t, p)
	failed := 0
	for _, c := range []struct {
		name      string
		cert, key []byte
		want      string // of the error: the file and why; "": none
	}{
		{"an empty certificate", nil, one.key, d.cert + ": expected a certificate"},
		{"no PEM", []byte("hello"), one.key, d.cert + ": expected whole PEM"},
		{"half a certificate", renewed.cert[:len(renewed.cert)/2], one.key, d.cert + ": expected whole PEM"},
		{"a chain that ends in half a certificate", chain[:len(chain)-100], one.key, d.cert + ": expected whole PEM"},
		{"a chain with what is no certificate", append(bytes.Clone(renewed.cert), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})...), one.key, d.cert + ": certificate 2"},
		{"a key for a certificate", one.key, one.key, d.cert + ": expected a certificate"},
		{"an empty key", renewed.cert, nil, d.key + ": expected PEM"},
		{"half a key", renewed.cert, one.key[:len(one.key)/2], d.key + ": expected PEM"},
		{"a certificate for a key", renewed.cert, renewed.cert, d.key + ": not a private key"},
		{"another's key", renewed.cert, other.key, d.key + ": not a private key that belongs to " + d.cert},
		{"another's certificate, its key not yet there", other.cert, one.key, d.key + ": not a private key that belongs to " + d.cert},
	} {
		d.write(c.cert, c.key)
		failed++
		if changed, err := p.Reload(); changed || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %v; want %s", c.name, changed, err, c.want)
		}
		if _, err := certs.Load(d.cert, d.key); err == nil {
			t.Errorf("%s: it loads", c.name)
		}
		if _, serial := dial(t, addr); serial != 1 {
			t.Errorf("%s: handshakes get certificate %d", c.name, serial)
		}
	}
	for _, gone := range []string{d.cert, d.key} {
		d.write(renewed.cert, renewed.key)
		if err := os.Remove(gone); err != nil {
			t.Fatal(err)
		}
		failed++
		if changed, err := p.Reload(); changed || err == nil || !strings.Contains(err.Error(), gone) {
			t.Errorf("without %s: got %v, %v", gone, changed, err)
		}
	}
	if got := metric(t, p, "allim_tls_certificate_reload_failures_total"); got != float64(failed) {
		t.Errorf("counted %v failures of %d", got, failed)
	}
	d.write(append(chain, "# words after the last one\n"...), renewed.key)
	if changed, err := p.Reload(); !changed || err != nil {
		t.Fatalf("a whole chain: got %v, %v", changed, err)
	}
	c, serial := dial(t, addr)
	if n := len(c.ConnectionState().PeerCertificates); serial != 2 || n != 2 {
		t.Errorf("got certificate %d, a chain of %d", serial, n)
	}
}

// Kubernetes swaps a link to a folder: the files behind the same names are others at once.
func TestFoldersThatAreSwappedByALink(t *testing.T) {
	one, two := makePair(t, 1, newKey(t)), makePair(t, 2, newKey(t))
	root := t.TempDir()
	for name, m := range map[string]made{"..1": one, "..2": two} {
		if err := os.Mkdir(filepath.Join(root, name), 0o700); err != nil {
			t.Fatal(err)
		}
		(&disk{t, filepath.Join(root, name, "tls.crt"), filepath.Join(root, name, "tls.key")}).write(m.cert, m.key)
	}
	link := func(to string) {
		next := filepath.Join(root, "..next")
		if err := os.Symlink(to, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(root, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	link("..1")
	p := (&disk{t, filepath.Join(root, "..data", "tls.crt"), filepath.Join(root, "..data", "tls.key")}).load()
	link("..2")
	if changed, err := p.Reload(); !changed || err != nil || !p.NotAfter().Equal(two.end) {
		t.Errorf("got %v, %v, until %v", changed, err, p.NotAfter())
	}
}

func TestHandshakesWhileItIsReadAgain(t *testing.T) {
	key := newKey(t)
	pairs := []made{makePair(t, 1, key), makePair(t, 2, key)}
	d := newDisk(t, pairs[0])
	p := d.load()
	addr := echo(t, p)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_, _ = p.Reload() // a file that is being written may fail
				}
			}
		})
	}
	for i := range 50 {
		d.write(pairs[i%2].cert, pairs[i%2].key)
		if _, serial := dial(t, addr); serial != 1 && serial != 2 {
			t.Errorf("got certificate %d", serial)
		}
	}
	close(done)
	wg.Wait()
	if _, err := p.Reload(); err != nil {
		t.Error(err)
	}
	if _, serial := dial(t, addr); serial != 2 {
		t.Errorf("at the end: got certificate %d", serial)
	}
}

func TestOldVersionsOfTLSAreRefused(t *testing.T) {
	d := newDisk(t, makePair(t, 1, newKey(t)))
	addr := echo(t, d.load())
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil {
		_ = c.Close()
		t.Error("TLS 1.1 is spoken")
	}
}

func TestTheEndOfTheCertificateIsAMetric(t *testing.T) {
	m := makePair(t, 5, newKey(t))
	p := newDisk(t, m).load()
	if got := metric(t, p, "allim_tls_certificate_not_after_seconds"); got != float64(m.end.Unix()) {
		t.Errorf("got %v, want %v", got, m.end.Unix())
	}
}

// metric is the one value of that name, of="public".
func metric(t *testing.T, p *certs.Pair, name string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(p.Collector("public"), p.Collector("publisher"))
	return testkit.Metric(t, r, name, "public")
}
