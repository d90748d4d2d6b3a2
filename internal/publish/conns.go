package publish

import (
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A bounded is a listener that has at most most connections open. It closes others at once: a caller goes to another publisher
// sooner than from a queue.
type bounded struct {
	net.Listener
	most    int64
	open    atomic.Int64
	gauge   prometheus.Gauge
	refused prometheus.Counter
}

func bound(l net.Listener, port string, most int, m *Metrics) *bounded {
	return &bounded{Listener: l, most: int64(most), gauge: m.connections.WithLabelValues(port), refused: m.refusedConnections.WithLabelValues(port)}
}

// Accept waits for the next connection that there is room for.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if b.open.Add(1) <= b.most {
			b.gauge.Inc()
			return &counted{Conn: c, began: time.Now(), leave: sync.OnceFunc(func() { b.open.Add(-1); b.gauge.Dec() })}, nil
		}
		b.open.Add(-1)
		b.refused.Inc()
		_ = c.Close() // nothing was said on it
	}
}

// counted is a connection that counts until it is closed.
type counted struct {
	net.Conn
	began time.Time
	leave func()
}

// An aged is the address of a connection's other end, with the time when the connection began: gRPC tells its calls nothing else of it.
type aged struct {
	net.Addr
	began time.Time
}

func (c *counted) RemoteAddr() net.Addr { return aged{c.Conn.RemoteAddr(), c.began} }

func (c *counted) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}

// faults takes what net/http says of connections, handshakes that failed foremost: strangers cause it, so it is for who looks for it. A
// panic that guard did not see is ours.
type faults struct{ log *slog.Logger }

func (f faults) Write(text []byte) (int, error) {
	said := strings.TrimSpace(string(text))
	if strings.HasPrefix(said, "http: panic") {
		f.log.Error("request_panicked", "error", said)
	} else {
		f.log.Debug("connection_failed", "error", said)
	}
	return len(text), nil
}
