//go:build fault

package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

const callWithin = 2 * time.Second // the deadline of one attempt

// A caller is a backend that owns one stream: it alone writes there, one operation after the other, each with its id until it is acknowledged. After an
// attempt without an answer it goes on at another publisher.
type caller struct {
	w             *world
	tenant, topic string
	user          string      // "": an event topic
	at            int         // the publisher it talks with
	n, passed     int         // ids made, of ephemeral messages too
	data          string      // fills up each payload
	hurries       atomic.Bool // it pauses for a moment only
}

func (c *caller) stream() string { return key(c.tenant, c.topic) }

// A switchboard holds one connection to each publisher, for all callers.
type switchboard struct {
	mu    sync.Mutex // guards conns
	conns map[string]*grpc.ClientConn
}

// to is the connection to a publisher.
func (s *switchboard) to(n *node) (*grpc.ClientConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if conn := s.conns[n.name]; conn != nil {
		return conn, nil
	}
	conn, err := grpc.NewClient(n.listen["grpc"], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond}, MinConnectTimeout: time.Second}))
	if err != nil {
		return nil, err
	}
	s.conns[n.name] = conn
	return conn, nil
}

// hangUp closes all of them.
func (s *switchboard) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	clear(s.conns)
}

// run writes until the load ends. every is the mean pause between two operations.
func (c *caller) run(every time.Duration) {
	for {
		wait := every/2 + rand.N(every)
		if c.hurries.Load() {
			wait = rand.N(5 * time.Millisecond)
		}
		select {
		case <-c.w.stop:
			return
		case <-c.w.ctx.Done():
			return
		case <-time.After(wait):
		}
		c.n++
		id := fmt.Sprintf("%s-%d", c.topic, c.n)
		if !c.write(id) {
			return
		}
		if c.user == "" && c.n%5 == 0 {
			c.pass()
		}
		if c.user != "" && c.n%3 == 0 {
			if !c.mark(fmt.Sprintf("%s-%d", c.topic, (1+rand.IntN(c.n))/2*2)) { // the even ones are its own
				return
			}
		}
	}
}

func (c *caller) write(id string) bool {
	data := fmt.Appendf(nil, `{"owner":%q,"data":%q}`, c.stream(), c.data)
	if c.user != "" {
		return c.do("notify", id, func(ctx context.Context, conn *grpc.ClientConn) (answer, error) {
			r, err := pb.NewPublisherClient(conn).Notify(ctx, &pb.NotifyRequest{Id: id, To: &pb.Audience{Users: []string{c.user}}, Data: data})
			if err != nil {
				return answer{}, err
			}
			x := r.Results[0]
			return answer{x.Pos, x.Duplicate}, status.Error(codes.Code(x.Code), x.GetMessage())
		})
	}
	return c.do("publish", id, func(ctx context.Context, conn *grpc.ClientConn) (answer, error) {
		r, err := pb.NewPublisherClient(conn).Publish(ctx, &pb.PublishRequest{Id: id, Topics: []string{c.topic}, Event: "e", Data: data})
		if err != nil {
			return answer{}, err
		}
		return answer{r.Results[0].Pos, r.Results[0].Duplicate}, nil
	})
}

// pass sends an ephemeral message. Nobody repeats those.
func (c *caller) pass() {
	c.passed++
	id := fmt.Sprintf("ephemeral-%d", c.passed)
	c.w.log.add(Event{What: sent, Stream: c.stream(), ID: id})
	ctx, cancel := c.context()
	defer cancel()
	conn, err := c.w.board.to(c.w.publishers[c.at])
	if err == nil {
		_, err = pb.NewPublisherClient(conn).Publish(ctx, &pb.PublishRequest{Id: id, Topics: []string{c.topic}, Mode: pb.PublishRequest_EPHEMERAL, Data: fmt.Appendf(nil, `{"owner":%q}`, c.stream())})
	}
	if err != nil {
		c.w.log.add(Event{What: sent, Stream: c.stream(), ID: id, Text: err.Error()})
	}
}

// context is that of one attempt.
func (c *caller) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(metadata.AppendToOutgoingContext(c.w.ctx, "authorization", "Bearer "+pods.APIKey(c.tenant)), callWithin)
}

var markOf = map[string]pb.MarkRequest_Mark{"seen": pb.MarkRequest_SEEN, "read": pb.MarkRequest_READ, "unread": pb.MarkRequest_UNREAD,
	"archive": pb.MarkRequest_ARCHIVE, "unarchive": pb.MarkRequest_UNARCHIVE}

// drawMark is a mark by its name.
func drawMark() string {
	return []string{"seen", "read", "read", "unread", "archive", "unarchive"}[rand.IntN(6)]
}

func (c *caller) mark(id string) bool {
	if id == c.topic+"-0" {
		return true
	}
	kind := drawMark()
	return c.do(kind, id, func(ctx context.Context, conn *grpc.ClientConn) (answer, error) {
		m := markOf[kind]
		r, err := pb.NewInboxClient(conn).Mark(ctx, &pb.MarkRequest{User: c.user, Mark: &m, Ids: []string{id}})
		if err == nil && len(r.Unknown) > 0 { // lost, and not written again yet
			if err = status.Error(codes.Unavailable, "the item is not there"); c.w.unknown(c.stream(), id) {
				err = status.Error(codes.NotFound, "the item is not there, and will not be")
			}
		}
		return answer{r.GetPos(), false}, err
	})
}

type answer struct {
	pos       string
	duplicate bool
}

// do repeats one operation until it is acknowledged; false where that took too long after the end of the load, or the test ended.
func (c *caller) do(kind, id string, try func(context.Context, *grpc.ClientConn) (answer, error)) bool {
	c.w.writing.RLock()
	defer c.w.writing.RUnlock()
	n := c.w.log.begin(kind, c.stream(), id)
	var late <-chan time.Time
	stop := c.w.stop
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		ctx, cancel := c.context()
		conn, err := c.w.board.to(c.w.publishers[c.at])
		var a answer
		if err == nil {
			a, err = try(ctx, conn)
		}
		cancel()
		by := c.w.publishers[c.at].name
		switch status.Code(err) {
		case codes.OK:
			c.w.log.add(Event{What: acked, Op: n, Pos: a.pos, Duplicate: a.duplicate, Pod: by})
			return true
		case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Canceled:
			c.w.log.add(Event{What: tried, Op: n, Pod: by, Text: err.Error()})
		case codes.NotFound:
			c.w.log.add(Event{What: missing, Op: n, Pod: by, Text: err.Error()})
			return true
		default:
			c.w.log.add(Event{What: refused, Op: n, Kind: kind, Stream: c.stream(), ID: id, Pod: by, Text: err.Error()})
			return false
		}
		c.at = (c.at + 1) % len(c.w.publishers)
		select {
		case <-stop:
			stop, late = nil, time.After(c.w.patience.answers)
		default:
		}
		select {
		case <-c.w.ctx.Done():
			return false
		case <-late:
			return false
		case <-time.After(rand.N(wait)):
		}
	}
}
