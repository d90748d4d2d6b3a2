package publish

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/auth"
	pb "allim/proto/allim/v1"
)

func (b *bench) events() pb.EventsClient { return pb.NewEventsClient(b.conn) }

// quickEvents are times that tests can wait for.
var quickEvents = store.Options{Events: store.Events{Again: 500 * time.Millisecond, Lease: time.Second, Trim: 100 * time.Millisecond}}

// A watched is a caller of Watch.
type watched struct {
	*testing.T
	grpc.ServerStreamingClient[pb.WatchResponse]
	created bool
	had     map[string]bool // by id
}

func (b *bench) watch(ctx context.Context, group string, types ...pb.Event_Type) watched {
	b.Helper()
	out, err := b.events().Watch(ctx, &pb.WatchRequest{Group: group, Types: types})
	if err != nil {
		b.Fatal(err)
	}
	first, err := out.Recv()
	if err != nil || len(first.Events) != 0 {
		b.Fatalf("first %v, %v", first, err)
	}
	return watched{b.T, out, first.Created, map[string]bool{}}
}

// want receives events that are written "READ:ann:n1,n2 …", beside those that it has had.
func (w watched) want(want string) (all []*pb.Event) {
	w.Helper()
	for len(all) < strings.Count(want, ":")/2 {
		r, err := w.Recv()
		if err != nil {
			w.Fatalf("got %v, then %v", all, err)
		}
		for _, e := range r.Events {
			if !w.had[e.EventId] {
				all = append(all, e)
			}
			w.had[e.EventId] = true
		}
	}
	var got []string
	for _, e := range all {
		got = append(got, e.Type.String()+":"+e.User+":"+strings.Join(e.Ids, ","))
	}
	if text := strings.Join(got, " "); text != want {
		w.Fatalf("got %s, want %s", text, want)
	}
	return all
}

// wantAgain waits until an event comes that it has had.
func (w watched) wantAgain(e *pb.Event) {
	w.Helper()
	for {
		r, err := w.Recv()
		if err != nil {
			w.Fatal(err)
		}
		if slices.ContainsFunc(r.Events, func(o *pb.Event) bool {
			return o.EventId == e.EventId && o.Type == e.Type && slices.Equal(o.Ids, e.Ids)
		}) {
			return
		}
	}
}

// wantEnd receives until the stream ends.
func (w watched) wantEnd(want codes.Code) error {
	w.Helper()
	for {
		if _, err := w.Recv(); err != nil {
			if status.Code(err) != want || errors.Is(err, io.EOF) {
				w.Fatalf("it ended with %v, want %v", err, want)
			}
			return err
		}
	}
}

// read puts notifications into ann's inbox, and reads them.
func (b *bench) read(credential, user string, ids ...string) {
	b.Helper()
	for _, id := range ids {
		if _, err := b.publisher().Notify(b.as(credential), &pb.NotifyRequest{Id: id, To: &pb.Audience{Users: []string{user}}, Data: []byte(`1`)}); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := b.inbox().Mark(b.as(credential), &pb.MarkRequest{User: user, Mark: pb.MarkRequest_READ.Enum(), Ids: ids, Origin: "p9Xk3vQ0aLr7Tz1e"}); err != nil {
		b.Fatal(err)
	}
}

func TestABackendHearsWhatItsUsersDo(t *testing.T) {
	b := newBenchOn(t, testkit.Redis(t), quickEvents)
	w := b.watch(b.asWithin("all", time.Minute), "billing")
	if !w.created {
		t.Error("the group is not new")
	}
	reads := b.watch(b.asWithin("all", time.Minute), "", pb.Event_READ)
	acme := b.watch(b.asWithin("acme", time.Minute), "billing")
	if reads.created || !acme.created {
		t.Errorf("a listener: created %v, another tenant: %v", reads.created, acme.created)
	}
	b.read("all", "Ann B", "n1", "n2")
	got := w.want("SEEN:Ann B:n1,n2 READ:Ann B:n1,n2")
	reads.want("READ:Ann B:n1,n2")
	if e := got[1]; e.Topic != "user:~QW5uIEI" || e.Origin != "p9Xk3vQ0aLr7Tz1e" || time.Since(e.Time.AsTime()) > time.Minute || e.EventId == got[0].EventId {
		t.Errorf("it is %v", e)
	}
	w.wantAgain(got[0])
	ids := []string{got[0].EventId, got[1].EventId, "0-1-1", "nobody's"}
	if _, err := b.events().Ack(b.as("acme"), &pb.AckRequest{Group: "billing", EventIds: ids}); err != nil {
		t.Error(err)
	}
	w.wantAgain(got[1]) // that was another tenant's
	w.wantAgain(got[1])
	if _, err := b.events().Ack(b.as("all"), &pb.AckRequest{Group: "billing", EventIds: ids}); err != nil {
		t.Fatal(err)
	}
	b.read("acme", "bob", "n1")
	acme.want("SEEN:bob:n1 READ:bob:n1")
	b.read("all", "carl", "n3")
	w.want("SEEN:carl:n3 READ:carl:n3")
	second := b.watch(b.asWithin("all", time.Minute), "billing")
	if second.created {
		t.Error("the group is new again")
	}
}

func TestOnlyWhoHasTheRightWatches(t *testing.T) {
	b := newBenchOn(t, testkit.Redis(t), quickEvents)
	for _, c := range []struct {
		credential, group string
		types             []pb.Event_Type
		want              codes.Code
		says              string
	}{
		{"orders", "g", nil, codes.PermissionDenied, `no right "events"`},
		{"", "g", nil, codes.Unauthenticated, "API key"},
		{"wrong", "g", nil, codes.Unauthenticated, "API key"},
		{"all", "G", nil, codes.InvalidArgument, "group: expected up to 32 of a-z 0-9 -"},
		{"all", strings.Repeat("g", 33), nil, codes.InvalidArgument, "group"},
		{"all", "g", []pb.Event_Type{pb.Event_READ, 9}, codes.InvalidArgument, "types[1]: expected ONLINE, OFFLINE, SENT, SEEN, READ or GAP"},
	} {
		out, err := b.events().Watch(b.as(c.credential), &pb.WatchRequest{Group: c.group, Types: c.types})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = out.Recv(); status.Code(err) != c.want || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s watches %q %v: %v", c.credential, c.group, c.types, err)
		}
		if c.types == nil {
			if _, err := b.events().Ack(b.as(c.credential), &pb.AckRequest{Group: c.group}); status.Code(err) != c.want || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s acknowledges in %q: %v", c.credential, c.group, err)
			}
		}
	}
	if _, err := b.events().Ack(b.as("all"), &pb.AckRequest{Group: "g", EventIds: make([]string, 1001)}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("1,001 ids: %v", err)
	}
	if n := b.rdb.DBSize(b.as("")).Val(); n != 1 {
		t.Errorf("%d keys are there", n)
	}
}

func TestThereIsABoundOfWatches(t *testing.T) {
	b := newBenchOn(t, testkit.Redis(t), quickEvents, func(o *Options) { o.Watchers = 2 })
	ctx, leave := context.WithCancel(b.asWithin("all", time.Minute))
	b.watch(ctx, "g")
	out, err := b.events().Watch(b.as("all"), &pb.WatchRequest{Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Recv(); status.Code(err) != codes.ResourceExhausted || detail[*errdetails.RetryInfo](err).GetRetryDelay() == nil {
		t.Errorf("one caller's second: %v", err)
	}
	b.watch(b.asWithin("acme", time.Minute), "g")
	leave()
	testkit.Eventually(t, 10*time.Second, func() bool {
		out, err := b.events().Watch(b.as("all"), &pb.WatchRequest{Group: "g"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = out.Recv()
		return err == nil
	}, "a place is free again")
}

// A publisher that stops ends its watches with what the caller has to know, and the group goes on at another one.
func TestAWatchEndsWithItsPublisherAndGoesOnElsewhere(t *testing.T) {
	srv := testkit.Redis(t)
	first, second := newBenchOn(t, srv, quickEvents), newBenchOn(t, srv, quickEvents)
	w := first.watch(first.as("all"), "g")
	first.read("all", "ann", "n1")
	got := w.want("SEEN:ann:n1 READ:ann:n1")
	first.srv.close()
	err := w.wantEnd(codes.Unavailable)
	if detail[*errdetails.ErrorInfo](err).GetReason() != "STREAM_ENDS" || detail[*errdetails.RetryInfo](err).GetRetryDelay() == nil {
		t.Errorf("got %v", err)
	}
	second.read("all", "ann", "n2")
	if _, err := second.events().Ack(second.as("all"), &pb.AckRequest{Group: "g", EventIds: []string{got[0].EventId, got[1].EventId}}); err != nil {
		t.Fatal(err)
	}
	next := second.watch(second.as("all"), "g")
	next.want("SEEN:ann:n2 READ:ann:n2")
}

func TestAWatchEndsInTimeAndWithItsCredential(t *testing.T) {
	b := newBenchOn(t, testkit.Redis(t), quickEvents, func(o *Options) { o.times.life = 100 * time.Millisecond })
	if err := b.watch(b.asWithin("all", time.Minute), "g").wantEnd(codes.Unavailable); !strings.Contains(err.Error(), "(age)") {
		t.Errorf("got %v", err)
	}
	right, err := auth.ParseRight("events")
	if err != nil {
		t.Fatal(err)
	}
	s := &changing{}
	s.Store(&auth.Principal{Name: "shop", Tenant: "default", Allow: []auth.Right{right}})
	b = newBenchOn(t, testkit.Redis(t), quickEvents, func(o *Options) { o.Services, o.times.check = s, 50*time.Millisecond })
	w := b.watch(b.asWithin("all", time.Minute), "g")
	s.Store(&auth.Principal{Name: "shop", Tenant: "default"})
	_ = w.wantEnd(codes.PermissionDenied)
	s.Store(&auth.Principal{Name: "shop", Tenant: "default", Allow: []auth.Right{right}})
	w = b.watch(b.asWithin("all", time.Minute), "g")
	s.Store(nil)
	_ = w.wantEnd(codes.Unauthenticated)
}

// Redis is away for a while: the watch stays, and what happened before and after comes.
func TestAWatchOutlivesARestartOfRedis(t *testing.T) {
	srv := testkit.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	b := newBenchOn(t, srv, quickEvents)
	w := b.watch(b.asWithin("all", 30*time.Second), "g")
	b.read("all", "ann", "n1")
	got := w.want("SEEN:ann:n1 READ:ann:n1")
	srv.Stop()
	srv.Restart()
	w.wantAgain(got[0]) // nobody acknowledged it
	testkit.EventuallyNil(t, 10*time.Second, func() error { return b.rdb.Ping(b.as("all")).Err() }, "have Redis back")
	b.read("all", "bob", "n2")
	w.want("SEEN:bob:n2 READ:bob:n2")
}
