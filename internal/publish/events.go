package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"allim/internal/store"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

const (
	watchMethod   = "Watch"
	watchLook     = 500 * time.Millisecond // at the most, until a watch looks whether it is to end
	watchBytes    = 1 << 20                // of a response, and one event more
	watchAgain    = 500 * time.Millisecond // after which a caller whose watch ended may come again
	maxEventAcks  = 1000
	leavingWithin = time.Second // at the end, for the others of the group to hear it
)

// eventsService is the service allim.v1.Events. Its Watch is Server.watchEvents: gRPC's own way would read the request before it is known whose it is.
type eventsService struct {
	pb.UnimplementedEventsServer
	s *Server
}

// Ack says that events are done with.
func (e eventsService) Ack(ctx context.Context, r *pb.AckRequest) (*pb.AckResponse, error) {
	p := principalOf(ctx)
	if err := errors.Join(notify.CheckGroup(r.Group), checkAcks(r.EventIds)); err != nil {
		return nil, err
	}
	if err := authorize(p, toEvents, r.Group, "group"); err != nil {
		return nil, err
	}
	ctx, cancel := withReserve(ctx)
	defer cancel()
	if err := e.s.Store.AckEvents(ctx, p.Tenant, r.Group, r.EventIds); err != nil {
		return nil, err
	}
	return &pb.AckResponse{}, nil
}

func checkAcks(ids []string) error {
	if len(ids) > maxEventAcks {
		return &notify.FieldError{Field: "event_ids", Want: fmt.Sprintf("at most %d", maxEventAcks)}
	}
	return nil
}

// What the letters of Redis are called here.
var eventTypes = map[notify.EventType]pb.Event_Type{notify.EventOnline: pb.Event_ONLINE, notify.EventOffline: pb.Event_OFFLINE, notify.EventSent: pb.Event_SENT,
	notify.EventSeen: pb.Event_SEEN, notify.EventRead: pb.Event_READ, notify.EventGap: pb.Event_GAP}

// wanted are the types that a request names, all where it names none. A type that only a later build writes is none of them.
func wanted(types []pb.Event_Type) (func(notify.EventType) bool, error) {
	for i, t := range types {
		if _, known := pb.Event_Type_name[int32(t)]; !known {
			return nil, &notify.FieldError{Field: fmt.Sprintf("types[%d]", i), Want: "ONLINE, OFFLINE, SENT, SEEN, READ or GAP"}
		}
	}
	return func(t notify.EventType) bool {
		name, known := eventTypes[t]
		return known && (len(types) == 0 || slices.Contains(types, name))
	}, nil
}

// A watching is one call of Watch. It has no goroutine but its call's.
type watching struct {
	s           *Server
	out         grpc.ServerStream
	credentials []string
	sender      string
	giveUp      func() // ends the call
	watch       *store.Watch
	created     bool
	open        int // of its events, as the gauge has it
}

// endOfWatch is what a caller hears of a watch that ends for no fault of his.
func endOfWatch(reason string) *ending {
	return &ending{reason, &fault{cause: errors.New("watch ends: " + reason), code: codes.Unavailable, reason: "STREAM_ENDS", retry: watchAgain,
		message: "this stream ends (" + reason + "): watch again"}}
}

var watchStopping, watchAge = endOfWatch("stopping"), endOfWatch("age")

// watchEvents is the way of a Watch: who is it, is there room for one more, then events as they come.
func (s *Server) watchEvents(out grpc.ServerStream) error {
	start := time.Now()
	md, _ := metadata.FromIncomingContext(out.Context())
	w := &watching{s: s, out: out, credentials: md.Get("authorization"), giveUp: giveUpOf(out.Context())}
	if err := w.begin(); err != nil {
		f := faultOf(err)
		s.logFault(watchMethod, f)
		s.Metrics.called(watchMethod, f, time.Since(start))
		return f.status().Err()
	}
	defer w.end()
	end := w.run()
	s.Metrics.watchesEnded.WithLabelValues(end.reason).Inc()
	if end.fault == nil {
		return nil
	}
	return end.fault.status().Err()
}

// begin reads the request of a caller who may, takes a place, and joins the group.
func (w *watching) begin() error {
	p, err := w.s.authenticate(w.credentials)
	if err != nil {
		return err
	}
	if err := authorize(p, toEvents, "", "group"); err != nil { // before anything of it is read
		return err
	}
	w.sender = p.Tenant + "/" + p.Name
	ctx, r := w.out.Context(), &pb.WatchRequest{}
	if err := w.s.intake.receive(ctx, w.sender, w.giveUp, func() error {
		if err := w.out.RecvMsg(r); err != nil {
			return w.s.unread(err)
		}
		return nil
	}); err != nil {
		return err
	}
	wants, err := wanted(r.Types)
	if err := errors.Join(notify.CheckGroup(r.Group), err); err != nil {
		return err
	}
	if !w.s.watchers.enter(w.sender) {
		f := faultOf(&limited{busy(nil), "watchers"})
		f.message = fmt.Sprintf("too many watches are open: expected at most %d, of one caller as many as are free; again after a pause, or on another publisher", w.s.Watchers)
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, w.s.Deadline)
	defer cancel()
	if w.watch, w.created, err = w.s.Store.Watch(ctx, p.Tenant, r.Group, wants); err != nil {
		w.s.watchers.leave(w.sender)
	}
	return err
}

// end gives the place back, and the partitions to the others of the group.
func (w *watching) end() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.out.Context()), leavingWithin)
	defer cancel()
	if err := w.watch.Close(ctx); err != nil {
		w.s.warn.Do(func() { w.s.Log.Warn("watcher_lingers", "error", err) })
	}
	w.s.watchers.leave(w.sender)
	w.s.Metrics.eventsOpen.Sub(float64(w.open))
}

// run sends events until the stream is to end. What was read from Redis is sent first: it would come again only after a while.
func (w *watching) run() *ending {
	defer context.AfterFunc(w.s.late, w.giveUp)()
	ctx, old, check := w.out.Context(), time.Now().Add(w.s.lifeOf(w.out.Context())), time.Now().Add(w.s.times.check)
	if !w.send(&pb.WatchResponse{Created: w.created}) {
		return w.gone()
	}
	for {
		n, err := w.watch.Next(ctx, watchLook)
		w.count(n)
		if !w.sendAll(n.Events) || ctx.Err() != nil {
			return w.gone()
		}
		now := time.Now()
		switch {
		case w.s.closing.Err() != nil:
			return watchStopping
		case err != nil:
			f := faultOf(err)
			w.s.logFault(watchMethod, f)
			return &ending{"store", f}
		case now.After(old):
			return watchAge
		case now.After(check):
			check = now.Add(w.s.times.check)
			if err := w.mayStill(); err != nil {
				f := faultOf(err)
				w.s.logFault(watchMethod, f)
				return &ending{"credential", f}
			}
		}
	}
}

// mayStill looks at the credential again: it may have expired, or have got other rights.
func (w *watching) mayStill() error {
	p, err := w.s.authenticate(w.credentials)
	if err == nil && p.Tenant+"/"+p.Name != w.sender {
		err = notify.ErrUnauthorized
	}
	if err != nil {
		return err
	}
	return authorize(p, toEvents, "", "group")
}

// gone says why nothing can be sent any more.
func (w *watching) gone() *ending {
	switch {
	case w.s.closing.Err() != nil:
		return watchStopping
	case errors.Is(w.out.Context().Err(), context.DeadlineExceeded):
		return endDeadline
	}
	return endGone
}

// sendAll sends events in responses that every client takes.
func (w *watching) sendAll(all []notify.Event) bool {
	r, size := &pb.WatchResponse{}, 0
	for _, e := range all {
		one := eventOf(e)
		r.Events = append(r.Events, one)
		if size += proto.Size(one); size >= watchBytes {
			if !w.send(r) {
				return false
			}
			r, size = &pb.WatchResponse{}, 0
		}
	}
	return len(r.Events) == 0 || w.send(r)
}

// send ends the call of a caller who does not read for too long.
func (w *watching) send(r *pb.WatchResponse) bool {
	defer time.AfterFunc(w.s.times.send, w.giveUp).Stop()
	return w.out.SendMsg(r) == nil
}

func (w *watching) count(n store.News) {
	m := w.s.Metrics
	m.eventsOpen.Add(float64(n.Open - w.open))
	w.open = n.Open
	for _, e := range n.Events {
		m.events.WithLabelValues(strings.ToLower(eventTypes[e.Type].String())).Inc()
		if e.Type == notify.EventGap {
			w.s.warn.Do(func() { w.s.Log.Warn("events_missing", "from", e.From, "to", e.To) })
		}
	}
	for _, group := range n.Lapsed {
		m.groupsLapsed.Inc()
		w.s.Log.Warn("group_lapsed", "group", group)
	}
}

// eventOf is an event in the words of the callers.
func eventOf(e notify.Event) *pb.Event {
	out := &pb.Event{EventId: e.ID, Type: eventTypes[e.Type], Time: timestamppb.New(e.Time), Origin: e.Origin, Ids: e.IDs}
	out.User, _ = e.Topic.User()
	if len(e.IDs) > 0 {
		out.Topic = string(e.Topic)
	}
	if e.Type == notify.EventGap {
		out.From, out.To = timestamppb.New(e.From), timestamppb.New(e.To)
	}
	return out
}
