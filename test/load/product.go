//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"allim/pkg/auth"
)

// A product is what is measured, and what it is measured against.
type product struct {
	name  string
	start func(context.Context, setup) (*served, error)
}

// What a product is started with.
type setup struct {
	dir, bin string // for its files; of our binaries
	cores    cores
	redis    string // host:port
	gateways int
	compress bool
	ping     time.Duration // between two pings of a connection
	settle   time.Duration // for what comes late, and twice, after a load
}

// A served is a product that runs. close ends it.
type served struct {
	dialect
	gateways   []*process
	publishers []*process
	clients    []string // where clients of each gateway connect

	// hello is what a client of that user says to hear topics and its own.
	hello func(user string, topics []string) hello
	// own is the topic on which a user is reached; publish and stream take it.
	own func(user string) string
	// publish returns when the message was acknowledged.
	publish func(ctx context.Context, topic, id string, data []byte) error
	// unicast does so for one user's inbox, or what the product has instead.
	unicast func(ctx context.Context, user, id string, data []byte) error
	// notify does so for many users at once; nil: it has no such call.
	notify func(ctx context.Context, users []string, id string, data []byte) error
	// stream opens the streamed form of publish.
	stream func(context.Context) (stream, error)

	free func() // closes what calls; nil: nothing to close
}

// A stream takes messages in order. acknowledged waits for the next answer.
type stream interface {
	send(topic, id string, data []byte) error
	acknowledged() error
	close() error
}

// errLacks is a scenario that a product cannot play, and why.
type errLacks string

func (e errLacks) Error() string { return string(e) }

func (s *served) close() error {
	if s.free != nil {
		s.free()
	}
	return stopAll(append(append([]*process{}, s.publishers...), s.gateways...))
}

// secret signs the tokens of all clients, of all products.
const secret = "a secret of the load generator, of more than 32 bytes"

// token is a client's, good for the longest run.
func token(user string, claims map[string]any) string {
	all := map[string]any{"sub": user, "exp": time.Now().Add(6 * time.Hour).Unix()}
	for name, value := range claims {
		all[name] = value
	}
	t, err := auth.Sign(auth.SigningKey{Algorithm: "HS256", Secret: []byte(secret)}, all)
	if err != nil {
		panic(err) // the claims are ours
	}
	return t
}

// bearer are the header lines of a client that shows a token and may offer compression.
func bearer(token string, compress bool) []string {
	lines := []string{"Sec-WebSocket-Protocol: allim.v1, bearer." + token}
	if compress {
		lines = append(lines, offer)
	}
	return lines
}

const offer = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// startRedis starts a Redis that keeps nothing on disk.
func startRedis(dir string, c cores) (*process, string, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, "", err
	}
	_, port, _ := net.SplitHostPort(addr)
	p, err := launch(dir, "redis", c.rest, "redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no", "--daemonize", "no")
	if err != nil {
		return nil, "", fmt.Errorf("%w (scripts/deps installs it)", err)
	}
	err = p.until("it answers", func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	if err != nil {
		_ = p.stop() // the first error says why
		return nil, "", err
	}
	return p, addr, nil
}

// each starts so many gateways of one program and waits until they say where they listen.
func (s *served) each(o setup, name, program string, args func(n int) []string) error {
	for n := range o.gateways {
		p, err := launch(o.dir, fmt.Sprintf("%s-%d", name, n+1), o.cores.servers, program, args(n)...)
		if err != nil {
			return err
		}
		s.gateways = append(s.gateways, p)
		addr, err := p.addr("public")
		if err != nil {
			return err
		}
		s.clients = append(s.clients, addr)
	}
	return nil
}

func (o setup) program(name string) string { return filepath.Join(o.bin, name) }

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
