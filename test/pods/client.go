package pods

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Within is how long a client waits for a frame that should come at once.
const Within = 20 * time.Second

// A Frame is one that came from a gateway. Fields that a type does not have are zero.
type Frame struct {
	Type      string          `json:"type"`
	Ref       json.RawMessage `json:"ref"`
	Session   string          `json:"session"`
	User      string          `json:"user"`
	Topic     string          `json:"topic"`
	Pos       string          `json:"pos"`
	ID        string          `json:"id"`
	Event     string          `json:"event"`
	Category  string          `json:"category"`
	Data      json.RawMessage `json:"data"`
	Badge     *Badge          `json:"badge"`
	Change    map[string][]string
	Items     []Item            `json:"items"`
	Before    string            `json:"before"`
	At        map[string]string `json:"at"`
	Changed   int               `json:"changed"`
	Unknown   []string          `json:"unknown"`
	Code      string            `json:"code"`
	Message   string            `json:"message"`
	Reason    string            `json:"reason"`
	In        int               `json:"in"`
	Mine      bool              `json:"mine"`
	Cursor    string            `json:"cursor"`
	Recovered []string          `json:"recovered"`
	Topics    map[string]string `json:"topics"` // of welcome and subscribed

	Replayed   bool    `json:"replayed"`
	RetryAfter float64 `json:"retry_after"` // seconds; of error
	AfterMS    int     `json:"after_ms"`    // of move
	What       string  `json:"what"`        // of degraded

	Raw string `json:"-"`
}

// A Badge is the counts of an inbox.
type Badge struct {
	Unread int            `json:"unread"`
	Unseen int            `json:"unseen"`
	By     map[string]int `json:"by"`
	Rev    string         `json:"rev"`
}

// An Item is one notification of an inbox.
type Item struct {
	ID       string          `json:"id"`
	Pos      string          `json:"pos"`
	Category string          `json:"category"`
	Data     json.RawMessage `json:"data"`
	Seen     bool            `json:"seen"`
	Read     bool            `json:"read"`
	Archived bool            `json:"archived"`
}

// A Hello is how a client comes. The zero value is the plainest one: anonymous, on "/".
type Hello struct {
	Token    string      // "": none; else as a subprotocol
	Path     string      // "": / for the anonymous, /v1/ws for others
	Topics   []string    // of the URL
	Inbox    int         // of the URL; 0: none
	Cursor   *string     // of the URL; nil: none, so that frames carry none
	Origin   string      // of the URL
	Header   http.Header // more of them
	Protocol []string    // instead of allim.v1 and the token
	Client   *http.Client
	TLS      *tls.Config // nil: plain; Client is not looked at with it
	OnFrame  func(Frame) // gets every frame, in order, instead of the transcript; it must not block for long
}

func (h *Hello) url(base string) string {
	q := url.Values{}
	if len(h.Topics) > 0 {
		q["topic"] = h.Topics
	}
	if h.Inbox > 0 {
		q.Set("inbox", fmt.Sprint(h.Inbox))
	}
	if h.Cursor != nil {
		q.Set("cursor", *h.Cursor)
	}
	if h.Origin != "" {
		q.Set("origin", h.Origin)
	}
	path := h.Path
	if path == "" {
		path = "/v1/ws"
		if h.Token == "" {
			path = "/"
		}
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	if h.TLS != nil {
		return "wss://" + base + path
	}
	return "ws://" + base + path
}

// A Refusal is an upgrade that was refused.
type Refusal struct {
	Status int
	Frame  Frame // the body
	Header http.Header
}

func (r *Refusal) Error() string { return fmt.Sprintf("refused with %d %s", r.Status, r.Frame.Raw) }

// A Client is one WebSocket. It is closed when the test ends.
type Client struct {
	tb      testing.TB
	ws      *websocket.Conn
	onFrame func(Frame)
	done    chan struct{} // closed when the connection has ended

	mu     sync.Mutex // guards the fields below
	frames []Frame    // the transcript
	at     int        // of the first that Await has not passed
	end    error      // why the connection ended
	wake   chan struct{}
}

// Dial opens a WebSocket at addr (host:port). The error is a *Refusal where the gateway answered.
func Dial(t testing.TB, addr string, h Hello) (*Client, error) {
	protocol := h.Protocol
	if protocol == nil && h.Token != "" {
		protocol = []string{"allim.v1", "bearer." + h.Token}
	}
	if h.TLS != nil { // one connection each: no pool is left behind
		h.Client = &http.Client{Transport: &http.Transport{TLSClientConfig: h.TLS, DisableKeepAlives: true}}
	}
	ctx, cancel := context.WithTimeout(context.Background(), Within)
	defer cancel()
	ws, r, err := websocket.Dial(ctx, h.url(addr), &websocket.DialOptions{Subprotocols: protocol, HTTPHeader: h.Header, HTTPClient: h.Client, Host: h.Header.Get("Host")})
	if err != nil {
		var refusal *Refusal
		if r != nil && r.StatusCode != http.StatusSwitchingProtocols {
			body, _ := io.ReadAll(r.Body)
			refusal = &Refusal{Status: r.StatusCode, Frame: decode(body), Header: r.Header}
			return nil, refusal
		}
		return nil, err
	}
	ws.SetReadLimit(1 << 20)
	c := &Client{tb: t, ws: ws, onFrame: h.OnFrame, done: make(chan struct{}), wake: make(chan struct{})}
	go c.read() // ends with the connection; Drop waits for it
	t.Cleanup(c.Drop)
	return c, nil
}

// Connect is Dial for who must be let in.
func Connect(t testing.TB, p *Pod, h Hello) *Client {
	t.Helper()
	c, err := Dial(t, p.Addr("public"), h)
	if err != nil {
		t.Fatalf("connect to %s: %v", p.Name, err)
	}
	return c
}

// Refused dials and wants the gateway to refuse with status.
func Refused(t testing.TB, p *Pod, h Hello, status int) *Refusal {
	t.Helper()
	_, err := Dial(t, p.Addr("public"), h)
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal with %d", err, status)
	}
	if r.Status != status {
		t.Fatalf("got %v, want %d", r, status)
	}
	return r
}

func decode(b []byte) Frame {
	f := Frame{Raw: string(b)}
	if err := json.Unmarshal(b, &f); err != nil {
		f.Type = "not JSON: " + err.Error()
	}
	return f
}

func (c *Client) read() {
	defer close(c.done)
	for {
		_, b, err := c.ws.Read(context.Background())
		if err != nil {
			c.mu.Lock()
			c.end = err
			c.wakeLocked()
			c.mu.Unlock()
			_ = c.ws.CloseNow()
			return
		}
		f := decode(b)
		if c.onFrame != nil {
			c.onFrame(f)
			continue
		}
		c.mu.Lock()
		c.frames = append(c.frames, f)
		c.wakeLocked()
		c.mu.Unlock()
	}
}

func (c *Client) wakeLocked() {
	close(c.wake)
	c.wake = make(chan struct{})
}

// Send sends a frame: a string as it is, anything else as JSON. A connection that has ended takes it without a word, as a browser's does.
func (c *Client) Send(frame any) {
	text, ok := frame.(string)
	if !ok {
		b, err := json.Marshal(frame)
		if err != nil {
			c.tb.Fatal(err)
		}
		text = string(b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), Within)
	defer cancel()
	_ = c.ws.Write(ctx, websocket.MessageText, []byte(text))
}

// Await passes frames until one is good, and is that. The test fails when none comes in time or the connection ends before.
func (c *Client) Await(what string, good func(Frame) bool) Frame {
	c.tb.Helper()
	return c.AwaitWithin(Within, what, good)
}

// AwaitWithin is Await with a time of its own.
func (c *Client) AwaitWithin(d time.Duration, what string, good func(Frame) bool) Frame {
	c.tb.Helper()
	late := time.NewTimer(d)
	defer late.Stop()
	for {
		c.mu.Lock()
		for c.at < len(c.frames) {
			f := c.frames[c.at]
			c.at++
			if good(f) {
				c.mu.Unlock()
				return f
			}
		}
		end, wake := c.end, c.wake
		c.mu.Unlock()
		if end != nil {
			c.tb.Fatalf("the connection ended (%v) before %s; frames:\n%s", end, what, c.Transcript())
		}
		select {
		case <-wake:
		case <-late.C:
			c.tb.Fatalf("waited %v in vain for %s; frames:\n%s", d, what, c.Transcript())
		}
	}
}

// Next passes frames until one is of a type.
func (c *Client) Next(typ string) Frame {
	c.tb.Helper()
	return c.Await("a frame "+typ, func(f Frame) bool { return f.Type == typ })
}

// AwaitAll passes frames until each of these types has come, in any order: topics know none among each other.
func (c *Client) AwaitAll(types ...string) {
	c.tb.Helper()
	missing := slices.Clone(types)
	c.Await(fmt.Sprint("frames ", types), func(f Frame) bool {
		missing = slices.DeleteFunc(missing, func(typ string) bool { return typ == f.Type })
		return len(missing) == 0
	})
}

// Answer passes frames until the one that answers ref.
func (c *Client) Answer(ref int) Frame {
	c.tb.Helper()
	return c.Await(fmt.Sprintf("the answer to ref %d", ref), func(f Frame) bool { return string(f.Ref) == fmt.Sprint(ref) })
}

// Ping sends a ping frame and waits for its pong: the connection is alive, and what was sent before it was taken.
func (c *Client) Ping() {
	c.tb.Helper()
	c.Send(`{"type":"ping","ref":"are you there"}`)
	c.Await("pong", func(f Frame) bool { return f.Type == "pong" && string(f.Ref) == `"are you there"` })
}

// Closed waits until the gateway has closed the connection, and is its close code; -1 where it was cut.
func (c *Client) Closed(within time.Duration) (code int, reason string) {
	c.tb.Helper()
	select {
	case <-c.done:
	case <-time.After(within):
		c.tb.Fatalf("the connection is still open after %v; frames:\n%s", within, c.Transcript())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var ce websocket.CloseError
	if errors.As(c.end, &ce) {
		return int(ce.Code), ce.Reason
	}
	return -1, ""
}

// Done is closed when the connection has ended and its last frame was handled.
func (c *Client) Done() <-chan struct{} { return c.done }

// Open tells whether the connection has not ended yet.
func (c *Client) Open() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// Drop cuts the connection without a word, as a network does, and returns when its last frame was handled.
func (c *Client) Drop() {
	_ = c.ws.CloseNow()
	<-c.done
}

// Protocol is the subprotocol that the gateway chose.
func (c *Client) Protocol() string { return c.ws.Subprotocol() }

// Frames is a copy of the transcript.
func (c *Client) Frames() []Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Frame(nil), c.frames...)
}

// Transcript is what came, a frame a line, the middle of a long one left out.
func (c *Client) Transcript() string {
	frames := c.Frames()
	var b strings.Builder
	for i, f := range frames {
		switch {
		case i < 10 || len(frames)-i <= 30:
			fmt.Fprintf(&b, "  %.240s\n", f.Raw)
		case i == 10:
			fmt.Fprintf(&b, "  … %d more …\n", len(frames)-40)
		}
	}
	return b.String()
}
