//go:build fault

package fault

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

const calm = 2 * time.Second // of load before the first fault, to compare with

// atOnce is how long 99 of 100 deliveries may take that no fault is near: the promise, and in the selection, which runs beside whatever the machine has to
// do, what only a fault of ours takes.
var atOnce = most(time.Second, 5*time.Second)

// A load is who writes and reads in a scenario, in each of two tenants that have the same names.
type load struct {
	users    int           // 0: three
	notified int           // of these, who gets notifications; 0: all
	devices  int           // readers of each user; 0: two
	topics   int           // heard by everybody; 0: three
	every    time.Duration // mean pause between two messages of a topic; 0: 100 ms
	seldom   bool          // users get few notifications and marks: the stream of a user keeps 128 events, and who misses more is reset, rightly
	lists    bool          // readers hold all of their inbox, and that is to be the server's
	data     int           // bytes more in each message
	reader   func(*reader) // changes each before it comes
	apart    time.Duration // readers come one after the other, that they all come at once is a scenario of its own; 0: some milliseconds
}

var tenants = pods.Tenants[:2]

// begin connects the readers, waits until each of them hears everything, and lets the callers write.
func (w *world) begin(l load) {
	w.tb.Helper()
	var topics, users []string
	for i := range cmp.Or(l.topics, 3) {
		topics = append(topics, fmt.Sprintf("long/feed-%d", i)) // whose history keeps everything
	}
	for i := range cmp.Or(l.users, 3) {
		users = append(users, fmt.Sprint("user-", i))
	}
	for _, tenant := range tenants {
		for _, user := range users {
			for device := range cmp.Or(l.devices, 2) {
				r := w.reader(tenant, user, device, topics)
				r.lists = l.lists
				if l.reader != nil {
					l.reader(r)
				}
			}
		}
	}
	w.hear(w.readers, cmp.Or(l.apart, most(2*time.Millisecond, 5*time.Millisecond)))
	pace := 700 * time.Millisecond
	if l.seldom {
		pace = 3 * time.Second
	}
	for _, tenant := range tenants {
		for _, topic := range topics {
			w.call(w.caller(tenant, topic, "", l.data), cmp.Or(l.every, 100*time.Millisecond))
		}
		for _, user := range users[:min(len(users), cmp.Or(l.notified, len(users)))] {
			w.call(w.caller(tenant, "user:"+user, user, 0), pace)
		}
	}
	for _, r := range w.readers {
		if r.marks {
			w.calling.Go(func() { r.mark(pace * 3 / 2) })
		}
	}
	w.pause(calm)
}

// reader makes a reader; the first device of a user is the one that marks, and every second comes back by positions.
func (w *world) reader(tenant, user string, device int, topics []string) *reader {
	r := &reader{w: w, name: fmt.Sprintf("%s/%s/%d", tenant, user, device), tenant: tenant, user: user, topics: topics, marks: device == 0, byPositions: device%2 == 1,
		token: pods.Token(w.tb, user, pods.Grant{Subscribe: []string{"*"}, Tenant: tenant}),
		at:    map[string]string{}, recent: map[string]*ids{}, shown: map[string]map[string]bool{}, answers: map[int]chan pods.Frame{}, list: list{pages: map[int]int{}}}
	w.readers = append(w.readers, r)
	return r
}

// hear lets readers come, apart from each other, and returns when each was welcomed.
func (w *world) hear(readers []*reader, apart time.Duration) {
	w.tb.Helper()
	if w.leave == nil {
		w.reading, w.leave = context.WithCancel(w.ctx)
	}
	before := w.opened()
	for _, r := range readers {
		w.hearing.Go(func() { r.run(w.reading) })
		w.pause(apart)
	}
	w.eventually(time.Minute, fmt.Sprintf("%d readers are in", len(readers)), func() bool { return w.opened() >= before+len(readers) })
}

// opened is how many connections were welcomed so far.
func (w *world) opened() int { return w.log.count(func(e *Event) bool { return e.What == connected }) }

// connections numbers the connections of all readers.
func (w *world) connections() int { return int(w.lines.Add(1)) }

func (w *world) caller(tenant, topic, user string, data int) *caller {
	c := &caller{w: w, tenant: tenant, topic: topic, user: user, at: len(w.callers) % len(w.publishers), data: strings.Repeat("x", data)}
	w.callers = append(w.callers, c)
	return c
}

// call lets a caller write until the load ends; every is the mean pause.
func (w *world) call(c *caller, every time.Duration) {
	w.calling.Go(func() { c.run(every) })
}

// callOnce writes one message on a topic, in which nobody writes besides.
func (w *world) callOnce(tenant, topic string) {
	c := w.caller(tenant, topic, "", 0)
	c.write(topic + "-1")
}

// finish ends the load, waits until everybody has everything, looks what the truth is, lets the readers go, and judges.
func (w *world) finish(a allowed) {
	w.tb.Helper()
	w.stopCallers()
	w.say("the load has ended")
	w.settle()
	w.say("everybody has everything, or it is late")
	w.truth()
	w.leave()
	w.hearing.Wait()
	w.say("the readers have left")
	w.measure("after")
	w.say("the processes are as before, or it is late")
	events := w.log.all()
	if a.late > 0 {
		a.late = max(a.late, atOnce)
	}
	for _, b := range judge(events, a) {
		w.tb.Error(b)
	}
	w.row.sum = summarize(events)
	w.row.picture = strings.TrimSuffix(filepath.Base(w.log.path), ".jsonl") + ".svg"
	if err := os.WriteFile(filepath.Join(filepath.Dir(w.log.path), w.row.picture), []byte(timeline(w.row.name, events)), 0o600); err != nil {
		w.tb.Errorf("write timeline: %v", err)
	}
}

// settle waits until the server has every item as its marks leave it (one that is done again waits for its item, which somebody else may have to write
// again), and every reader was shown what it is owed and shows the counts of the server, or until that is late: the rules tell what is missing.
func (w *world) settle() {
	owed := map[string][]*op{} // by reader
	v := newView(w.log.all(), allowed{})
	for _, p := range v.places {
		for _, o := range v.on[p.stream] {
			if v.owes(p, o) {
				owed[p.reader] = append(owed[p.reader], o)
			}
		}
	}
	deadline := time.Now().Add(w.patience.settled)
	for writing := slices.Clone(w.callers); len(writing) > 0 && time.Now().Before(deadline); w.pause(100 * time.Millisecond) {
		writing = slices.DeleteFunc(writing, func(c *caller) bool { return c.user == "" || w.isMarked(v, c) })
	}
	waiting := slices.Clone(w.readers)
	for ; len(waiting) > 0 && time.Now().Before(deadline); w.pause(100 * time.Millisecond) {
		counts := map[string]*pb.Badge{}
		waiting = slices.DeleteFunc(waiting, func(r *reader) bool { return r.hasAll(owed[r.name]) && w.shows(r, counts) })
	}
	for _, r := range w.readers {
		r.mu.Lock()
		e := Event{What: holds, Reader: r.name, Stream: r.stream("user:" + r.user), Unread: r.badge.Unread, Unseen: r.badge.Unseen}
		if r.lists {
			e.Kind, e.Items = "list", slices.Clone(r.list.items)
		}
		w.log.add(e)
		r.mu.Unlock()
	}
}

// isMarked tells whether all items of a user are as their marks leave them.
func (w *world) isMarked(v *view, c *caller) bool {
	var e Event
	return w.list(c, &e) == nil && !slices.ContainsFunc(e.Items, func(it Item) bool { return !v.mayBe(c.stream(), it) })
}

// shows tells whether a reader shows the counts of the server, which are asked for once.
func (w *world) shows(r *reader, counts map[string]*pb.Badge) bool {
	own := r.stream("user:" + r.user)
	if counts[own] == nil {
		if counts[own] = w.counts(r.tenant, r.user); counts[own] == nil {
			return false
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.badge.Unread == int(counts[own].Unread) && r.badge.Unseen == int(counts[own].Unseen) && (!r.lists || r.list.whole && offset(r.at["user:"+r.user]) >= w.top(own))
}

// top is the offset of the last event of a stream that was acknowledged.
func (w *world) top(stream string) (top int) {
	for _, o := range newView(w.log.all(), allowed{}).ops {
		if o.stream == stream && o.acked {
			top = max(top, offset(o.pos))
		}
	}
	return top
}

// ask calls a publisher that is there.
func (w *world) ask(tenant string, call func(context.Context, *grpc.ClientConn) error) error {
	err := fmt.Errorf("there is no publisher")
	for _, n := range w.publishers {
		var conn *grpc.ClientConn
		if conn, err = grpc.NewClient(n.listen["grpc"], grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(w.ctx, "authorization", "Bearer "+pods.APIKey(tenant)), callWithin)
		err = call(ctx, conn)
		cancel()
		_ = conn.Close()
		if err == nil {
			return nil
		}
	}
	return err
}

// counts is a user's badge; nil where nobody says.
func (w *world) counts(tenant, user string) (b *pb.Badge) {
	_ = w.ask(tenant, func(ctx context.Context, conn *grpc.ClientConn) error {
		r, err := pb.NewInboxClient(conn).Counts(ctx, &pb.CountsRequest{User: user})
		b = r.GetBadge()
		return err
	})
	return b
}

// truth writes down what stands on the server for each stream that was written to.
func (w *world) truth() {
	w.tb.Helper()
	for _, c := range w.callers {
		e := Event{What: history, Stream: c.stream()}
		if c.user != "" {
			e.What = inbox
			testkit.EventuallyNil(w.tb, healedAfter, func() error { return w.list(c, &e) }, "list the inbox of "+e.Stream)
		} else {
			testkit.EventuallyNil(w.tb, healedAfter, func() error { return w.read(c, &e) }, "read the history of "+e.Stream)
		}
		w.log.add(e)
	}
	rdb, ctx := w.admin(), testkit.Context(w.tb, pods.Within)
	for _, rdb := range rdb {
		keys, err := rdb.Keys(ctx, "*").Result()
		if err != nil {
			w.tb.Fatal(err)
		}
		for _, key := range keys {
			if left := rdb.PTTL(ctx, key).Val(); left == -1 && key != "al:schema" {
				w.log.add(Event{What: endless, Text: key})
			}
		}
	}
}

// list fills in a user's whole inbox and its counts.
func (w *world) list(c *caller, e *Event) error {
	return w.ask(c.tenant, func(ctx context.Context, conn *grpc.ClientConn) error {
		e.Items = nil
		for before := ""; ; {
			r, err := pb.NewInboxClient(conn).List(ctx, &pb.ListRequest{User: c.user, Status: pb.ListRequest_ALL, Limit: 100, Before: before})
			if err != nil {
				return err
			}
			for _, it := range r.Items {
				e.Items = append(e.Items, Item{ID: it.Id, Seen: it.Seen, Read: it.Read, Archived: it.Archived})
			}
			e.Unread, e.Unseen = int(r.Badge.Unread), int(r.Badge.Unseen)
			if before = r.GetBefore(); before == "" {
				return nil
			}
		}
	})
}
