package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

// A limit is one of the contract's section 4, or a bound of a name that stands there. try makes something of n (bytes, items) and says whether it was taken
// ("") or how it was refused; metric counts the refusals.
type limit struct {
	name    string
	bound   int
	try     func(t *testing.T, n int) (refused string)
	refused string // how what is above the bound is refused
	metric  func() float64
}

// check tries one below, at and above the bound: only the last is refused, and only that moves the metric.
func (l *limit) check(t *testing.T) {
	t.Helper()
	before := l.metric()
	for _, n := range []int{l.bound - 1, l.bound} {
		if got := l.try(t, n); got != "" {
			t.Errorf("%d is refused: %s", n, got)
		}
	}
	if got := l.metric(); got != before {
		t.Errorf("the metric went from %v to %v although nothing was above the bound", before, got)
	}
	if got := l.try(t, l.bound+1); got != l.refused {
		t.Errorf("%d: got %q, want %q", l.bound+1, got, l.refused)
	}
	testkit.Eventually(t, pods.Within, func() bool { return l.metric() > before }, "the metric moves")
}

func jsonOf(n int) []byte { return []byte(`"` + strings.Repeat("x", n-2) + `"`) }

func names(n int, form string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(form, i)
	}
	return all
}

func TestLimitsOfThePublisher(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{Gateways: -1})
	pub := stage.Publishers[0]
	b := pods.NewBackend(t, pub, "default")
	refusals := func(reason, field string) func() float64 {
		return func() float64 { return pub.Metric("allim_publisher_refused_total", "reason", reason, "field", field) }
	}
	publish := func(r *pb.PublishRequest) string {
		_, err := b.Publisher.Publish(b.Call(), r)
		return refusal(err)
	}
	notify := func(r *pb.NotifyRequest) string {
		_, err := b.Publisher.Notify(b.Call(), r)
		return refusal(err)
	}
	data := []byte("1")
	const invalid = "InvalidArgument"
	for _, l := range []limit{
		{"bytes of data of a message", 64 << 10, func(_ *testing.T, n int) string {
			return publish(&pb.PublishRequest{Topics: []string{"a"}, Data: jsonOf(n)})
		}, invalid, refusals("too_large", "data")},
		{"bytes of data of a notification", 16 << 10, func(_ *testing.T, n int) string {
			return notify(&pb.NotifyRequest{Id: fmt.Sprint("n", n), To: &pb.Audience{Users: []string{"ann"}}, Data: jsonOf(n)})
		}, invalid, refusals("too_large", "data")},
		{"topics of a Publish", 100, func(_ *testing.T, n int) string {
			return publish(&pb.PublishRequest{Topics: names(n, "t%d"), Data: data})
		}, invalid, refusals("invalid", "topics")},
		{"users of a Notify", 10_000, func(_ *testing.T, n int) string {
			return notify(&pb.NotifyRequest{Id: fmt.Sprint("m", n), To: &pb.Audience{Users: names(n, "u%d")}, Data: data})
		}, invalid, refusals("invalid", "to.users")},
		{"bytes of an event's name", 128, func(_ *testing.T, n int) string {
			return publish(&pb.PublishRequest{Topics: []string{"a"}, Event: strings.Repeat("e", n), Data: data})
		}, invalid, refusals("invalid", "event")},
		{"ids of a mark", 500, func(_ *testing.T, n int) string {
			_, err := b.Inbox.Mark(b.Call(), &pb.MarkRequest{User: "ann", Mark: pb.MarkRequest_READ.Enum(), Ids: names(n, "i%d")})
			return refusal(err)
		}, invalid, refusals("invalid", "ids")},
	} {
		t.Run(l.name, l.check)
	}
	t.Run("control characters in an event's name", func(t *testing.T) {
		before := refusals("invalid", "event")()
		if got := publish(&pb.PublishRequest{Topics: []string{"a"}, Event: "a\nb", Data: data}); got != invalid {
			t.Errorf("got %q, want %q", got, invalid)
		}
		if got := refusals("invalid", "event")(); got != before+1 {
			t.Errorf("the metric is %v, want %v", got, before+1)
		}
	})
	t.Run("bytes of a gRPC message", func(t *testing.T) {
		// Up to the bound it is read, and refused for the name of its event; above it is not.
		for n, want := range map[int]string{4<<20 - 1: invalid, 4 << 20: invalid, 4<<20 + 1: "ResourceExhausted"} {
			r := &pb.PublishRequest{Topics: []string{"a"}, Data: data}
			r.Event = strings.Repeat("e", n-proto.Size(r)-len("\x1a")-varint(n))
			if got := proto.Size(r); got != n {
				t.Fatalf("the request has %d bytes, want %d", got, n)
			}
			before := refusals("too_large", "request")()
			if got := publish(r); got != want {
				t.Errorf("%d bytes: got %q, want %q", n, got, want)
			}
			if moved := refusals("too_large", "request")() - before; moved != 0 != (want != invalid) {
				t.Errorf("%d bytes: the metric moved by %v", n, moved)
			}
		}
	})
}

// varint is how many bytes the length of a field of about n bytes takes.
func varint(n int) (bytes int) {
	for ; n > 0; n >>= 7 {
		bytes++
	}
	return bytes
}

func refusal(err error) string {
	if code := status.Code(err); code != codes.OK {
		return code.String()
	}
	return ""
}

func TestLimitsOfTheGateway(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{})
	gw := stage.Gateways[0]
	hits := func(name string) func() float64 {
		return func() float64 { return gw.Metric("allim_limit_hits_total", "limit", name) }
	}
	refusals := func() float64 { return gw.Metric("allim_refusals_total", "code", "unauthorized") }
	all := pods.Grant{Subscribe: []string{"*"}}
	b := pods.NewBackend(t, stage.Publishers[0], "default")
	b.Notify("ann", "n1", "", "1") // or no mark would look at its ids
	for _, l := range []limit{
		{"bytes of a client frame", 16 << 10, func(t *testing.T, n int) string {
			c := pods.Connect(t, gw, pods.Hello{})
			const head, foot = `{"type":"ping","ref":7,"pad":"`, `"}`
			c.Send(head + strings.Repeat("x", n-len(head)-len(foot)) + foot)
			return answered(c, func() { c.Answer(7) }, n <= 16<<10)
		}, "closed with 1009", hits("frame_bytes")},
		{"topics of a connection, asked for in frames", 100, func(t *testing.T, n int) string {
			c := pods.Connect(t, gw, pods.Hello{Token: pods.Token(t, "ann", all)})
			asked := names(n-2, "t%d") // and the own stream, and the segment of all
			half := len(asked) / 2
			subscribe(c, 1, asked[:half])
			return subscribe(c, 2, asked[half:])
		}, "limit", hits("topics")},
		{"topics of a connection, asked for in the URL", 100, func(t *testing.T, n int) string {
			g := all
			g.Hear = []string{"h1", "h2"}
			c := pods.Connect(t, gw, pods.Hello{Token: pods.Token(t, "ann", g), Topics: names(n-4, "t%d")})
			if welcome := c.Next("welcome"); len(welcome.Topics) != min(n, 100) {
				t.Errorf("welcome names %d topics, want %d", len(welcome.Topics), min(n, 100))
			}
			c.Send(`{"type":"ping","ref":1}`)
			f := c.Await("error or pong", func(f pods.Frame) bool { return f.Type == "error" || f.Type == "pong" })
			return f.Code
		}, "limit", hits("topics")},
		{"topics that a token makes heard", 100, func(t *testing.T, n int) string {
			_, err := pods.Dial(t, gw.Addr("public"), pods.Hello{Token: pods.Token(t, "ann", pods.Grant{Hear: names(n-2, "h%d")})})
			return refused(err)
		}, "401 unauthorized", refusals},
		{"segments of a token", 20, func(t *testing.T, n int) string {
			token := pods.Sign(t, map[string]any{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix(), "allim": map[string]any{"segments": names(n, "s%d")}})
			_, err := pods.Dial(t, gw.Addr("public"), pods.Hello{Token: token})
			return refused(err)
		}, "401 unauthorized", refusals},
		{"bytes of request line and headers", 8 << 10, func(t *testing.T, n int) string { return head(t, gw, n) }, "413 too_large", hits("header_bytes")},
		{"bytes of a token before the upgrade", 4 << 10, func(t *testing.T, n int) string {
			_, err := pods.Dial(t, gw.Addr("public"), pods.Hello{Token: tokenOf(t, n)})
			return refused(err)
		}, "401 unauthorized", hits("token_bytes")},
		{"bytes of a token in a frame", 4 << 10, func(t *testing.T, n int) string {
			c := pods.Connect(t, gw, pods.Hello{})
			c.Next("welcome")
			c.Send(map[string]any{"type": "auth", "token": tokenOf(t, n), "ref": 7})
			return answered(c, func() { c.Answer(7); c.Next("welcome") }, n <= 4<<10)
		}, "closed with 4401", hits("token_bytes")},
		{"ids of a mark", 500, func(t *testing.T, n int) string {
			c := pods.Connect(t, gw, pods.Hello{Token: pods.Token(t, "ann", all)})
			c.Send(map[string]any{"type": "read", "ids": names(n, "i%d"), "ref": 7})
			return c.Answer(7).Code
		}, "bad_frame", hits("mark_ids")},
		{"items of an inbox page", 100, func(t *testing.T, n int) string {
			c := pods.Connect(t, gw, pods.Hello{Token: pods.Token(t, "ann", all)})
			c.Send(map[string]any{"type": "inbox", "limit": n, "ref": 7})
			return c.Answer(7).Code
		}, "bad_frame", func() float64 { return gw.Metric("allim_refusals_total", "code", "bad_frame") }},
	} {
		t.Run(l.name, l.check)
	}
}

// answered is "" where the gateway answered, else how it closed the connection.
func answered(c *pods.Client, answer func(), good bool) string {
	if good {
		answer()
		return ""
	}
	code, _ := c.Closed(pods.Within)
	return fmt.Sprint("closed with ", code)
}

// subscribe is the code of the one error that a subscribe frame got, "" for none.
func subscribe(c *pods.Client, ref int, topics []string) (code string) {
	at := map[string]any{}
	for _, topic := range topics {
		at[topic] = nil
	}
	c.Send(map[string]any{"type": "subscribe", "topics": at, "ref": ref})
	for {
		f := c.Answer(ref)
		if f.Type == "subscribed" {
			return code
		}
		code += f.Code
	}
}

// refused is how a gateway refused an upgrade, "" where it did not.
func refused(err error) string {
	if r, ok := err.(*pods.Refusal); ok {
		return fmt.Sprint(r.Status, " ", r.Frame.Code)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// tokenOf is a good token of n bytes.
func tokenOf(t *testing.T, n int) string {
	t.Helper()
	claims := map[string]any{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix(), "pad": ""}
	for {
		token := pods.Sign(t, claims)
		switch missing := n - len(token); {
		case missing == 0:
			return token
		case missing < 0:
			t.Fatalf("no token has %d bytes", n)
		default:
			claims["pad"] = claims["pad"].(string) + strings.Repeat("x", max(1, missing*3/4-1))
		}
	}
}
