package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"time"

	"allim/internal/lifecycle"
	"allim/internal/session"
	"allim/internal/transport/ws"
)

// conformance lets public protocol suites at the code that serves every connection of a gateway, without Redis or tokens.
type conformance struct {
	Listen  string `default:"127.0.0.1:3000" help:"Loopback address to listen on (${default})."`
	Profile string `enum:"suite,normal" default:"suite" help:"suite answers every ping; normal keeps the limits of a gateway (${default})."`
}

// echoMax is the size of the longest message of the public suites.
const echoMax = 16 << 20

// Run serves the echo until ctx ends.
func (c *conformance) Run(ctx context.Context) error { return c.run(ctx, os.Stdout) }

func (c *conformance) run(ctx context.Context, out io.Writer) error {
	addr, err := net.ResolveTCPAddr("tcp", c.Listen)
	if err != nil || !addr.IP.IsLoopback() {
		return &mistake{fmt.Errorf("--listen: expected a loopback address such as 127.0.0.1:3000, not %q: it answers everybody", c.Listen)}
	}
	l, err := net.ListenTCP("tcp", addr)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	o := ws.Options{Limits: &session.Limits{Frame: echoMax, Pong: time.Minute}, Metrics: session.NewMetrics(nil)}
	if c.Profile == "suite" {
		o.Pings = math.MaxInt
	}
	sockets := ws.New(o)
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", sockets.Echo)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	fmt.Fprintf(out, "WebSocket echo at ws://%s/echo\nready\n", l.Addr())
	return lifecycle.Run(ctx,
		lifecycle.Part{Name: "sockets", Run: sockets.Run, Budget: time.Second},
		lifecycle.Part{Name: "door", Budget: time.Second, Run: func(ctx context.Context) error {
			defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", l.Addr(), err)
			}
			return nil
		}})
}
