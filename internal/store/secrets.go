package store

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/redis/go-redis/v9"
)

const maxSecretFile = 1 << 20 // bytes; a bundle of all public authorities has a quarter of that

var errEmpty = errors.New("it is empty")

// provider tells who a new connection says it is, as go-redis asks for it.
type provider = func(context.Context) (user, password string, err error)

// A login is who we say we are, as settings below one name have it.
type login struct {
	of                     string // what the settings' names begin with: "redis."
	username, usernameFile string
	password, passwordFile string
	metrics                *Metrics
}

func (c Connection) login() login {
	return login{"redis.", c.Username, c.UsernameFile, c.Password, c.PasswordFile, c.Metrics}
}

// credentials is who each new connection says it is; nil where the URL or nobody says it.
func (c Connection) credentials(o *redis.Options) (provider, error) {
	if o.Username != "" || o.Password != "" {
		for _, f := range c.login().given() {
			return nil, wrong(f, "nothing, since redis.url names a user or a password")
		}
	}
	return c.login().provider()
}

// credentials is the same for Sentinels.
func (s Sentinel) credentials(m *Metrics) (provider, error) { return s.login(m).provider() }

func (s Sentinel) login(m *Metrics) login {
	return login{"redis.sentinel.", s.Username, s.UsernameFile, s.Password, s.PasswordFile, m}
}

// given are the settings that are set.
func (l login) given() (all []string) {
	for _, f := range []struct{ name, value string }{
		{"username", l.username}, {"username_file", l.usernameFile}, {"password", l.password}, {"password_file", l.passwordFile},
	} {
		if f.value != "" {
			all = append(all, l.of+f.name)
		}
	}
	return all
}

// provider is nil where nothing is given.
func (l login) provider() (provider, error) {
	switch {
	case l.username != "" && l.usernameFile != "":
		return nil, wrong(l.of+"username_file", "nothing, since %susername is set", l.of)
	case l.password != "" && l.passwordFile != "":
		return nil, wrong(l.of+"password_file", "nothing, since %spassword is set", l.of)
	case len(l.given()) == 0:
		return nil, nil
	case l.password == "" && l.passwordFile == "":
		return nil, wrong(l.of+"password", "a password, since a user is named")
	}
	user, err := l.fresh("username_file", l.username, l.usernameFile)
	if err != nil {
		return nil, err
	}
	password, err := l.fresh("password_file", l.password, l.passwordFile)
	if err != nil {
		return nil, err
	}
	return func(context.Context) (string, string, error) { return user(), password(), nil }, nil
}

// fresh returns what reads a secret: text, or what file holds now.
func (l login) fresh(name, text, file string) (func() string, error) {
	if file == "" {
		return func() string { return text }, nil
	}
	read := func() (string, error) {
		b, err := readSecret(file)
		return string(b), err
	}
	last, err := read()
	if err != nil {
		return nil, wrong(l.of+name, "a file with one line (%v)", err)
	}
	return lastGood(last, read, l.metrics), nil
}

// secure makes o's TLS ours. go-redis has set the server name and a minimum of TLS 1.2.
func (c Connection) secure(o *redis.Options) error {
	if o.TLSConfig == nil {
		for _, f := range []struct{ field, file string }{
			{"redis.ca_file", c.CAFile}, {"redis.cert_file", c.CertFile}, {"redis.key_file", c.KeyFile},
		} {
			if f.file != "" {
				return wrong(f.field, "nothing, since redis.url is not rediss:// and there is no TLS")
			}
		}
		return nil
	}
	if c.CAFile != "" {
		pem, err := readSecret(c.CAFile)
		if err != nil {
			return wrong("redis.ca_file", "a file with certificates (%v)", err)
		}
		o.TLSConfig.RootCAs = x509.NewCertPool()
		if !o.TLSConfig.RootCAs.AppendCertsFromPEM(pem) {
			return wrong("redis.ca_file", "a file with certificates in PEM")
		}
	}
	switch {
	case c.CertFile == "" && c.KeyFile == "":
		return nil
	case c.CertFile == "":
		return wrong("redis.cert_file", "the certificate of redis.key_file")
	case c.KeyFile == "":
		return wrong("redis.key_file", "the key of redis.cert_file")
	}
	return c.introduce(o.TLSConfig)
}

// introduce has every handshake show our certificate.
func (c Connection) introduce(t *tls.Config) error {
	read := func() (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		return &cert, err
	}
	last, err := read()
	if err != nil {
		return wrong("redis.cert_file", "a certificate in PEM with the key in redis.key_file (%v)", err)
	}
	fresh := lastGood(last, read, c.Metrics)
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return fresh(), nil }
	return nil
}

// unreadable joins which files can not be read, whatever the rest says.
func (c Connection) unreadable() error {
	var all []error
	for _, f := range []struct{ field, want, file string }{
		{"redis.username_file", "a file with one line", c.UsernameFile}, {"redis.password_file", "a file with one line", c.PasswordFile},
		{"redis.sentinel.username_file", "a file with one line", c.Sentinel.UsernameFile},
		{"redis.sentinel.password_file", "a file with one line", c.Sentinel.PasswordFile},
		{"redis.ca_file", "a file with certificates", c.CAFile}, {"redis.cert_file", "a file in PEM", c.CertFile}, {"redis.key_file", "a file in PEM", c.KeyFile},
	} {
		if f.file == "" {
			continue
		}
		if _, err := readSecret(f.file); err != nil {
			all = append(all, wrong(f.field, "%s (%v)", f.want, err))
		}
	}
	return errors.Join(all...)
}

// lastGood reads again on every call. While that fails, as between the writing of a certificate and of its key, the last value counts: a file that
// vanished must not cut off a service whose password still holds. It is safe for concurrent use.
func lastGood[T any](last T, read func() (T, error), m *Metrics) func() T {
	var mu sync.Mutex // guards last
	return func() T {
		now, err := read()
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			m.staleSecret()
			return last
		}
		last = now
		return last
	}
}

// readSecret is what a file holds, without the line ends behind it. A file without anything else is an error.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSecretFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxSecretFile)
	}
	if b = bytes.TrimRight(b, "\r\n"); len(b) == 0 {
		return nil, errEmpty
	}
	return b, nil
}
