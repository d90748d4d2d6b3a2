// Package certs is a TLS server certificate that is read again from its files while connections live on.
package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A Pair is a certificate and its key, each in a PEM file. Load makes it, and it starts nothing: whoever owns it calls Reload from time
// to time. It is safe for concurrent use.
type Pair struct {
	certFile, keyFile string // constant

	now      atomic.Pointer[tls.Certificate] // what new handshakes get; never nil
	failures atomic.Uint64                   // of Reload

	mu        sync.Mutex // one Reload at a time; guards what follows
	cert, key []byte     // what the files of now held
}

// Load reads a pair. The first certificate of certFile is the server's own, those after it lead to its authority.
func Load(certFile, keyFile string) (*Pair, error) {
	p := &Pair{certFile: certFile, keyFile: keyFile}
	if _, err := p.reload(); err != nil {
		return nil, err
	}
	return p, nil
}

// Reload reads both files again, and tells whether new handshakes get another certificate from now on. What they hold is compared, not
// their times: Kubernetes swaps a link. A pair that can not be read, is not whole or does not belong together changes nothing: the error
// names the file, and the certificate of before stays.
func (p *Pair) Reload() (changed bool, err error) {
	changed, err = p.reload()
	if err != nil {
		p.failures.Add(1)
	}
	return changed, err
}

func (p *Pair) reload() (changed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cert, err := os.ReadFile(p.certFile)
	key, noKey := os.ReadFile(p.keyFile)
	switch {
	case err != nil && noKey != nil:
		return false, fmt.Errorf("read certificate: %w, read its key: %w", err, noKey)
	case err != nil:
		return false, fmt.Errorf("read certificate: %w", err)
	case noKey != nil:
		return false, fmt.Errorf("read key of certificate: %w", noKey)
	}
	if bytes.Equal(cert, p.cert) && bytes.Equal(key, p.key) {
		return false, nil
	}
	// One that is renewed with the same key would fit it half written, too: the file must be the same after the key was read.
	if again, err := os.ReadFile(p.certFile); err != nil || !bytes.Equal(cert, again) {
		return false, fmt.Errorf("read certificate %s: it changed meanwhile", p.certFile)
	}
	pair, err := parse(cert, key, p.certFile, p.keyFile)
	if err != nil {
		return false, err
	}
	p.now.Store(pair)
	p.cert, p.key = cert, key
	return true, nil
}

// parse reads a pair. Its errors say nothing of what the key's file holds.
func parse(cert, key []byte, certFile, keyFile string) (*tls.Certificate, error) {
	if err := checkChain(cert); err != nil {
		return nil, fmt.Errorf("read certificate %s: %w", certFile, err)
	}
	if block, _ := pem.Decode(key); block == nil {
		return nil, fmt.Errorf("read key of certificate %s: expected PEM, such as -----BEGIN PRIVATE KEY-----", keyFile)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read key of certificate %s: not a private key that belongs to %s", keyFile, certFile)
	}
	return &pair, nil
}

// checkChain finds what tls.X509KeyPair passes over: a certificate that was begun and not ended, and one after the first that is none.
func checkChain(text []byte) error {
	n := 0
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil && (n == 0 || bytes.Contains(text, []byte("-----BEGIN"))) {
			return errors.New("expected whole PEM blocks, -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----")
		}
		if block == nil { // words after the last one
			break
		}
		if block.Type == "CERTIFICATE" {
			if _, err := x509.ParseCertificate(block.Bytes); err != nil {
				return fmt.Errorf("certificate %d of the file: %w", n+1, err)
			}
			n++
		}
		text = rest
	}
	if n == 0 {
		return errors.New("expected a certificate in PEM, -----BEGIN CERTIFICATE-----")
	}
	return nil
}

// Config is for servers: each handshake gets the certificate of its moment. TLS 1.2 is the oldest version. Protocols (ALPN) are the caller's.
func (p *Pair) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.now.Load(), nil },
	}
}

// NotAfter is when the server's own certificate ends.
func (p *Pair) NotAfter() time.Time { return p.now.Load().Leaf.NotAfter }
