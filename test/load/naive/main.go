// Command naive is the baseline that `make load` measures Allim against: a notification server as one would first write it from the examples of
// coder/websocket, go-redis and golang-jwt. One goroutine reads in the handler, another writes from a channel of 256 and pings with a ticker of its
// own, each message is written with Conn.Write to each connection, and a topic is a channel of Redis pub/sub. It keeps no history, no positions and
// no inbox. It stays as plain as it is: who makes it faster makes every ratio that was ever quoted worth less.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"
)

const (
	queue      = 256 // messages that wait for a connection; with more it is cut
	writeLimit = 10 * time.Second
)

type server struct {
	hub      *hub
	secret   []byte
	ping     time.Duration
	compress bool
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where clients connect")
	url := flag.String("redis", "redis://127.0.0.1:6379/0", "its Redis")
	secret := flag.String("secret", "", "of the clients' tokens (HS256)")
	ping := flag.Duration("ping", 25*time.Second, "between two pings of a connection")
	compress := flag.Bool("compress", false, "offer permessage-deflate")
	flag.Parse()
	if err := run(*listen, *url, &server{secret: []byte(*secret), ping: *ping, compress: *compress}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(listen, url string, s *server) error {
	o, err := redis.ParseURL(url)
	if err != nil {
		return fmt.Errorf("read redis url: %w", err)
	}
	client := redis.NewClient(o)
	defer client.Close()
	s.hub = newHub(client.Subscribe(context.Background()))
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	go s.hub.run() // as long as the process
	fmt.Fprintf(os.Stderr, `{"msg":"listening","public":%q}`+"\n", l.Addr())
	return (&http.Server{Handler: s, ReadHeaderTimeout: writeLimit}).Serve(l)
}

// user is the subject of the token among the subprotocols.
func (s *server) user(r *http.Request) (string, error) {
	_, token, ok := strings.Cut(r.Header.Get("Sec-WebSocket-Protocol"), "bearer.")
	if !ok {
		return "", errors.New("no token")
	}
	parsed, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return s.secret, nil }, jwt.WithValidMethods([]string{"HS256"}))
	if err != nil {
		return "", err
	}
	return parsed.Claims.GetSubject()
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, err := s.user(r)
	if err != nil {
		http.Error(w, "unauthorized", http.StatusUnauthorized)
		return
	}
	o := &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"allim.v1"}}
	if s.compress {
		o.CompressionMode, o.CompressionThreshold = websocket.CompressionNoContextTakeover, 64
	}
	ws, err := websocket.Accept(w, r, o)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	c := &conn{ws: ws, queue: make(chan []byte, queue)}
	topics := append(r.URL.Query()["topic"], "user:"+user)
	if err := s.hub.add(ctx, c, topics); err != nil {
		return
	}
	defer s.hub.remove(c, topics)
	go func() { // ends with ctx, at the latest when the handler returns
		defer cancel()
		c.write(ctx, s.ping)
	}()
	for {
		if _, _, err := ws.Read(ctx); err != nil {
			return
		}
	}
}

type conn struct {
	ws    *websocket.Conn
	queue chan []byte
}

// offer gives the connection a message; one that is too slow is cut.
func (c *conn) offer(m []byte) {
	select {
	case c.queue <- m:
	default:
		_ = c.ws.CloseNow()
	}
}

// write writes until the connection ends.
func (c *conn) write(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	if c.within(ctx, func(ctx context.Context) error {
		return c.ws.Write(ctx, websocket.MessageText, []byte(`{"type":"welcome"}`))
	}) != nil {
		return
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case m := <-c.queue:
			err = c.within(ctx, func(ctx context.Context) error { return c.ws.Write(ctx, websocket.MessageText, m) })
		case <-tick.C:
			err = c.within(ctx, c.ws.Ping)
		}
		if err != nil {
			return
		}
	}
}

func (c *conn) within(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	return do(ctx)
}
