package publish

import (
	"context"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"allim/internal/store"
	"allim/pkg/auth"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

// inbox is the service allim.v1.Inbox.
type inbox struct {
	pb.UnimplementedInboxServer
	s *Server
}

func (i inbox) List(ctx context.Context, r *pb.ListRequest) (*pb.ListResponse, error) {
	return i.s.list(ctx, principalOf(ctx), r)
}

func (i inbox) Counts(ctx context.Context, r *pb.CountsRequest) (*pb.CountsResponse, error) {
	return i.s.counts(ctx, principalOf(ctx), r)
}

func (i inbox) Mark(ctx context.Context, r *pb.MarkRequest) (*pb.MarkResponse, error) {
	return i.s.mark(ctx, principalOf(ctx), r)
}

func (i inbox) Preferences(ctx context.Context, r *pb.PreferencesRequest) (*pb.PreferencesResponse, error) {
	return i.s.preferences(ctx, principalOf(ctx), r)
}

func (s *Server) list(ctx context.Context, p *auth.Principal, r *pb.ListRequest) (*pb.ListResponse, error) {
	topic, query, err := checkList(r)
	if err != nil {
		return nil, err
	}
	if err := authorize(p, toInbox, r.User, "user"); err != nil {
		return nil, err
	}
	ctx, cancel := withReserve(ctx)
	defer cancel()
	page, err := s.Store.ListFor(ctx, reader(p, topic), query)
	if err != nil {
		return nil, err
	}
	reply := &pb.ListResponse{At: map[string]string{string(topic): page.At.String()}, Badge: badge(page.Badge)}
	for _, of := range page.Within {
		reply.At[string(notify.TopicOf(notify.KindSegment, of.Segment))] = of.At.String()
	}
	if page.Before != "" {
		reply.Before = proto.String(page.Before)
	}
	for _, i := range page.Items {
		item := &pb.Item{Id: i.ID, Topic: string(i.Topic), Pos: i.Position.String(), Category: i.Category,
			Time: timestamppb.New(i.Time), Data: i.Data, Seen: i.Seen, Read: i.Read, Archived: i.Archived}
		if !i.ExpiresAt.IsZero() {
			item.ExpiresAt = timestamppb.New(i.ExpiresAt)
		}
		reply.Items = append(reply.Items, item)
	}
	return reply, nil
}

func (s *Server) counts(ctx context.Context, p *auth.Principal, r *pb.CountsRequest) (*pb.CountsResponse, error) {
	var m mistakes
	topic := m.user(r.User)
	if err := m.err(); err != nil {
		return nil, err
	}
	if err := authorize(p, toInbox, r.User, "user"); err != nil {
		return nil, err
	}
	ctx, cancel := withReserve(ctx)
	defer cancel()
	b, err := s.Store.CountsFor(ctx, reader(p, topic))
	if err != nil {
		return nil, err
	}
	return &pb.CountsResponse{Badge: badge(b)}, nil
}

func (s *Server) mark(ctx context.Context, p *auth.Principal, r *pb.MarkRequest) (*pb.MarkResponse, error) {
	topic, mark, err := s.Limits.checkMark(r)
	if err != nil {
		return nil, err
	}
	if err := authorize(p, toInbox, r.User, "user"); err != nil {
		return nil, err
	}
	ctx, cancel := withReserve(ctx)
	defer cancel()
	m, err := s.Store.MarkFor(ctx, reader(p, topic), mark)
	if err != nil {
		return nil, err
	}
	reply := &pb.MarkResponse{Changed: int32(m.Changed), Unknown: m.Unknown}
	if m.Changed > 0 {
		reply.Pos = proto.String(m.Position.String())
	}
	return reply, nil
}

func (s *Server) preferences(ctx context.Context, p *auth.Principal, r *pb.PreferencesRequest) (*pb.PreferencesResponse, error) {
	topic, mute, err := checkPreferences(r)
	if err != nil {
		return nil, err
	}
	if err := authorize(p, toInbox, r.User, "user"); err != nil {
		return nil, err
	}
	ctx, cancel := withReserve(ctx)
	defer cancel()
	now, pos, changed, err := s.Store.Preferences(ctx, notify.Stream{Tenant: p.Tenant, Topic: topic}, mute, r.Origin)
	if err != nil {
		return nil, err
	}
	reply := &pb.PreferencesResponse{Mute: now}
	if changed {
		reply.Pos = proto.String(pos.String())
	}
	return reply, nil
}

// reader is a user as a backend sees it: with the segments that it did not leave.
func reader(p *auth.Principal, user notify.Topic) store.Reader {
	return store.Reader{Stream: notify.Stream{Tenant: p.Tenant, Topic: user}}
}

func badge(b notify.Badge) *pb.Badge {
	out := &pb.Badge{Unread: int32(b.Unread), Unseen: int32(b.Unseen), Rev: b.Revision.String()}
	for _, c := range b.By {
		if out.By == nil {
			out.By = map[string]int32{}
		}
		out.By[c.Category] = int32(c.Unread)
	}
	return out
}
