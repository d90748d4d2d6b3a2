// Package webhook tells a backend's server something by a signed POST, as Standard Webhooks 1.0.0 says (github.com/standard-webhooks/standard-webhooks,
// spec/standard-webhooks.md). One call is one attempt: when to try again is the caller's.
package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
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
	maxPause       = time.Hour        // that a receiver can ask for
	maxConnections = 32               // to one receiver, which may be many tenants': all that are on their way (internal/due)
	idleTimeout    = 90 * time.Second // of a connection
)

// The types of events.
const (
	Unseen = "notification.unseen"
	Unread = "notification.unread"
)

// An Event is what a receiver is told.
type Event struct {
	Type     string    // Unseen or Unread
	At       time.Time // when it became so: the same at each attempt
	Tenant   string
	User     string // as calls name it
	ID       string // the notification's
	Category string
	Time     time.Time // of the notification
	Topic    string    // of the user's stream
	Pos      string    // of the notification in it
	Data     []byte    // one JSON value; empty: null
}

// A Result is what became of an attempt.
type Result int

// The results.
const (
	Sent    Result = iota // the receiver answered 2xx
	Again                 // it did not, or nothing came
	Refused               // 410: it wants no more of them
)

// An Answer is a Result with what is known of it.
type Answer struct {
	Result Result
	After  time.Duration // of Again: how long the receiver asked to be left alone, an hour at most; 0: it said nothing
	Status int           // 0: no answer came
	Err    error         // why none came, without the URL
}

// Options say how webhooks are sent.
type Options struct {
	Timeout time.Duration    // of an attempt; 0: 10 s
	Roots   *x509.CertPool   // that receivers' certificates must lead to; nil: the system's
	Now     func() time.Time // nil: time.Now
}

// New makes a Sender.
func New(o Options) *Sender {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	dialer := &net.Dialer{Timeout: o.Timeout}
	return &Sender{timeout: o.Timeout, now: o.Now, client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a signed request goes where the operator said, nowhere else
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, ForceAttemptHTTP2: true, DisableCompression: true,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
			TLSHandshakeTimeout: o.Timeout, MaxResponseHeaderBytes: maxHeader, MaxConnsPerHost: maxConnections, MaxIdleConnsPerHost: 2, IdleConnTimeout: idleTimeout},
	}}
}

// A Sender sends webhooks. It is safe for concurrent use. Whoever made it calls Close when nothing is sent any more.
type Sender struct {
	timeout time.Duration
	now     func() time.Time
	client  *http.Client
}

// Close closes idle connections.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Send makes one attempt, of Timeout at the longest. What ctx ends is Again.
func (s *Sender) Send(ctx context.Context, to Endpoint, e Event) Answer {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	request, err := s.request(ctx, to, e)
	if err != nil {
		return Answer{Result: Again, Err: err}
	}
	response, err := s.client.Do(request)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) { // it names the whole URL
			err = ue.Err
		}
		return Answer{Result: Again, Err: fmt.Errorf("post webhook: %w", err)}
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer) // the status is what counts
	a := Answer{Status: response.StatusCode}
	switch {
	case a.Status >= 200 && a.Status <= 299:
		a.Result = Sent
	case a.Status == http.StatusGone:
		a.Result = Refused
	default:
		a.Result = Again
		if a.Status == http.StatusTooManyRequests || a.Status == http.StatusServiceUnavailable {
			a.After = pause(response.Header.Get("Retry-After"), s.now())
		}
	}
	return a
}

func (s *Sender) request(ctx context.Context, to Endpoint, e Event) (*http.Request, error) {
	body, err := bodyOf(e)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.url, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("make webhook: no endpoint")
	}
	id, at := idOf(e), s.now()
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Allim")
	r.Header.Set("Webhook-Id", id)
	r.Header.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("Webhook-Signature", to.sign(id, at, body))
	return r, nil
}

// bodyOf is what is sent and signed. It says what the notification is now: after an update or a failover of Redis a later attempt has another data or pos, and the same id.
func bodyOf(e Event) ([]byte, error) {
	type data struct {
		User     string          `json:"user"`
		ID       string          `json:"id"`
		Category string          `json:"category,omitempty"`
		Time     string          `json:"time"`
		Topic    string          `json:"topic"`
		Pos      string          `json:"pos"`
		Data     json.RawMessage `json:"data"`
	}
	out := struct {
		Type      string `json:"type"`
		Timestamp string `json:"timestamp"`
		Data      data   `json:"data"`
	}{e.Type, timeText(e.At), data{User: e.User, ID: e.ID, Category: e.Category, Time: timeText(e.Time), Topic: e.Topic, Pos: e.Pos, Data: e.Data}}
	if len(e.Data) == 0 {
		out.Data.Data = nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(out); err != nil {
		return nil, fmt.Errorf("make webhook: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

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
