package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"allim/internal/tcp"
)

// timeouts bound a connection before and beside the WebSocket, which has its own: hijacking clears these.
type timeouts struct{ header, read, write, idle time.Duration }

var public = timeouts{header: 5 * time.Second, read: 15 * time.Second, write: 30 * time.Second, idle: 60 * time.Second}

// Listen opens the public port. Accepted connections inherit its options (pitfalls D31): a reader that does not read holds 64 KiB of kernel
// memory and not the 4 MB that Linux grows to, and one that vanished is given up 20 s after bytes to it stay unacknowledged.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	o := tcp.Options{UserTimeout: 20 * time.Second, SendBuffer: 64 << 10}
	c := net.ListenConfig{KeepAliveConfig: tcp.KeepAlive, Control: o.Control}
	return c.Listen(ctx, "tcp", addr)
}

// Serve answers on the public port until ctx ends, then lets requests under way finish. WebSockets are the business of Sessions.Run.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	return serve(ctx, l, h, log, public)
}

func serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger, t timeouts) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: t.header,
		ReadTimeout:       t.read,
		WriteTimeout:      t.write,
		IdleTimeout:       t.idle,
		MaxHeaderBytes:    maxHeader, // net/http adds 4 KiB of its own: admit.request is exact
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		err := srv.Shutdown(stop)
		if err != nil {
			err = errors.Join(err, srv.Close())
		}
		done <- err
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return <-done
}
