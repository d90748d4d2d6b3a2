package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"allim/internal/tcp"
)

// bounds are those of a connection before and beside the WebSocket, which has its own: hijacking clears these.
type bounds struct {
	header, read, write, idle time.Duration
	pause                     time.Duration // from the end of the context to the closing of the port
	head                      int           // bytes of request line and headers, beyond which net/http answers 431 by itself (it adds 4 KiB)
}

var public = bounds{header: 5 * time.Second, read: 15 * time.Second, write: 30 * time.Second, idle: 60 * time.Second, head: 8 << 10}

// Listen opens the public port. Accepted connections inherit its options (pitfalls D31): a reader that does not read holds 64 KiB of kernel
// memory and not the 4 MB that Linux grows to, and one that vanished is given up 40 s after bytes to it stay unacknowledged: Linux counts a reader that reads nothing as well, and that one has 30 s of
// lag (decision 0020).
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	o := tcp.Options{UserTimeout: 40 * time.Second, SendBuffer: 64 << 10}
	c := net.ListenConfig{KeepAliveConfig: tcp.KeepAlive, Control: o.Control}
	return c.Listen(ctx, "tcp", addr)
}

// stopWithin is how long requests under way may take when the port closes.
const stopWithin = 700 * time.Millisecond

// Budget is the longest time from the end of Serve's context to its return.
func (g *Gateway) Budget() time.Duration { return g.opt.Pause + time.Second }

// Serve answers on l, which it closes, until ctx ends and for Pause after it: balancers send connections for a while to who is no longer ready,
// and none may be refused. Then it lets requests under way finish. WebSockets are the business of Sessions.Run.
// With t, which it does not change, l speaks TLS; nil is plain HTTP. HTTP/2 is spoken to who asks for it, which browsers do for everything
// but WebSockets: those go over a connection of their own in HTTP/1.1 (RFC 8441 is not offered).
func (g *Gateway) Serve(ctx context.Context, l net.Listener, t *tls.Config) error {
	b := public
	b.pause = g.opt.Pause
	b.head = g.opt.Sessions.Limits().Header
	return serve(ctx, l, g, g.opt.Log, b, t)
}

func serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger, t bounds, c *tls.Config) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: t.header, // of a handshake, too
		ReadTimeout:       t.read,
		WriteTimeout:      t.write,
		IdleTimeout:       t.idle,
		MaxHeaderBytes:    t.head, // admit.request is exact
		ErrorLog:          stdlog.New(faults{log}, "", 0),
		HTTP2: &http.HTTP2Config{ // bodies are small, and a page needs few answers at once
			MaxConcurrentStreams:          32,
			MaxReceiveBufferPerConnection: 128 << 10,
			MaxReceiveBufferPerStream:     64 << 10,
			SendPingTimeout:               t.idle / 2,
			PingTimeout:                   t.read,
			WriteByteTimeout:              t.write,
		},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		time.Sleep(t.pause)
		stop, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		if srv.Shutdown(stop) != nil { // somebody connected and never asked, or reads an answer too slowly: no failure of ours
			_ = srv.Close()
		}
	}()
	run := srv.Serve
	if c != nil {
		srv.TLSConfig = c.Clone()
		run = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	if err := run(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	<-done
	return nil
}

// faults takes what net/http says of connections, handshakes that failed foremost. Strangers cause it, so it is for who looks for it; a
// handler that panicked is ours.
type faults struct{ log *slog.Logger }

func (f faults) Write(text []byte) (int, error) {
	said := strings.TrimSpace(string(text))
	if strings.HasPrefix(said, "http: panic") || strings.HasPrefix(said, "http2: panic") {
		f.log.Error("request_panicked", "error", said)
	} else {
		f.log.Debug("connection_failed", "error", said)
	}
	return len(text), nil
}
