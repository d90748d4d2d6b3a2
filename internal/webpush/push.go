// Package webpush pushes to browsers that no page of ours is open in: RFC 8030 with the encryption of RFC 8291 and the identification of RFC 8292, with the
// standard library's cryptography (docs/decisions/0027). One call is one attempt at one subscription: when to try again is the caller's.
package webpush

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	defaultTimeout = 10 * time.Second // of an attempt, from the name's lookup to the answer
	maxAnswer      = 4 << 10          // bytes that are read of an answer's body, so that the connection can serve again; nobody looks at them
	maxHeader      = 16 << 10         // bytes of its header
	maxPause       = time.Hour        // that a push service can ask for
	maxConnections = 32               // to one push service
	idleTimeout    = 90 * time.Second // of a connection
	defaultLife    = 24 * time.Hour   // of a push that its browser does not ask for
	maxLife        = 28 * 24 * time.Hour
)

// errPrivate is a push service's name that led to an address of an inner network.
var errPrivate = errors.New("push: the address is not a public one")

// A Result is what became of an attempt.
type Result int

// The results.
const (
	Sent    Result = iota // the push service has it
	Again                 // it was busy, or nothing came
	Gone                  // 404 or 410: the subscription has ended, and is to be forgotten
	Refused               // the push service will not take this push, however often it is asked
)

// An Answer is a Result with what is known of it.
type Answer struct {
	Result Result
	After  time.Duration // of Again: how long the push service asked to be left alone, an hour at most; 0: it said nothing
	Status int           // 0: no answer came
	Err    error         // why none came, without the endpoint, which is a secret of its user
}

// A Push is what a browser is told.
type Push struct {
	ID        string // of the notification
	Topic     string // of the user's stream
	Category  string
	Data      []byte    // of the notification: title, body, url and icon of it are told
	Collapse  string    // what a later push with the same one replaces, while the browser has not asked; "": the notification's id
	ExpiresAt time.Time // zero: in 24 hours
}

// Options say how it is pushed.
type Options struct {
	Keys    Keys
	Hosts   Hosts
	Timeout time.Duration    // of an attempt; 0: 10 s
	Roots   *x509.CertPool   // that push services' certificates must lead to; nil: the system's
	Now     func() time.Time // nil: time.Now
}

// New makes a Sender. It uses no proxy: what is dialled is what is checked.
func New(o Options) *Sender {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	dialer := &net.Dialer{Timeout: o.Timeout, Control: o.Hosts.control}
	return &Sender{keys: o.Keys, hosts: o.Hosts, timeout: o.Timeout, now: o.Now, client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialContext: dialer.DialContext, ForceAttemptHTTP2: true, DisableCompression: true,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
			TLSHandshakeTimeout: o.Timeout, MaxResponseHeaderBytes: maxHeader, MaxConnsPerHost: maxConnections, MaxIdleConnsPerHost: 4, IdleConnTimeout: idleTimeout},
	}}
}

// A Sender pushes. It is safe for concurrent use. Whoever made it calls Close when nothing is pushed any more.
type Sender struct {
	keys    Keys
	hosts   Hosts
	timeout time.Duration
	now     func() time.Time
	client  *http.Client
}

// Close closes idle connections.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Send makes one attempt, of Timeout at the longest. What ctx ends is Again.
func (s *Sender) Send(ctx context.Context, to Subscription, p Push) Answer {
	if err := s.hosts.Check(to.endpoint); err != nil { // the list may have become shorter since it was stored
		return Answer{Result: Refused, Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	request, err := s.request(ctx, to, p)
	if err != nil {
		return Answer{Result: Refused, Err: err}
	}
	response, err := s.client.Do(request)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) { // it names the whole endpoint
			err = ue.Err
		}
		a := Answer{Result: Again, Err: fmt.Errorf("push: %w", err)}
		if errors.Is(err, errPrivate) {
			a.Result = Refused
		}
		return a
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer) // the status is what counts
	return s.answer(response)
}

func (s *Sender) answer(r *http.Response) Answer {
	a := Answer{Status: r.StatusCode}
	switch {
	case a.Status >= 200 && a.Status <= 299:
		a.Result = Sent
	case a.Status == http.StatusNotFound || a.Status == http.StatusGone:
		a.Result = Gone
	case a.Status == http.StatusTooManyRequests || a.Status == http.StatusRequestTimeout || a.Status >= 500:
		a.Result = Again
		a.After = pause(r.Header.Get("Retry-After"), s.now())
	default:
		a.Result = Refused
	}
	return a
}

func (s *Sender) request(ctx context.Context, to Subscription, p Push) (*http.Request, error) {
	text, err := textOf(p, maxText)
	if err != nil {
		return nil, err
	}
	body, err := to.encrypt(text)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("make push: no endpoint")
	}
	token, err := s.keys.authorization(r.URL.Scheme+"://"+r.URL.Host, s.now())
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", token)
	r.Header.Set("Content-Encoding", "aes128gcm")
	r.Header.Set("Content-Type", "application/octet-stream")
	r.Header.Set("TTL", strconv.Itoa(int(s.life(p).Seconds())))
	r.Header.Set("Urgency", "normal")
	r.Header.Set("Topic", topicOf(p))
	r.Header.Set("User-Agent", "Allim")
	return r, nil
}

func (s *Sender) life(p Push) time.Duration {
	if p.ExpiresAt.IsZero() {
		return defaultLife
	}
	return min(max(p.ExpiresAt.Sub(s.now()), 0), maxLife)
}

// topicOf is the name under which a push service keeps one push of a subscription: 32 characters of base64url (RFC 8030, section 5.4).
func topicOf(p Push) string {
	kind, name := "k\n", p.Collapse
	if name == "" {
		kind, name = "i\n", p.ID
	}
	sum := sha256.Sum256([]byte(kind + name))
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}

// pause reads Retry-After (RFC 9110, section 10.2.3): seconds or a date. What is neither says nothing.
func pause(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 63); err == nil {
		return time.Second * time.Duration(min(seconds, uint64(maxPause/time.Second)))
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), maxPause)
	}
	return 0
}
