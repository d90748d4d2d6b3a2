package publish

import (
	"context"

	"allim/internal/store"
	"allim/pkg/auth"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

func (p publisher) Update(ctx context.Context, r *pb.UpdateRequest) (*pb.UpdateResponse, error) {
	return p.s.update(ctx, principalOf(ctx), r)
}

func (p publisher) Retract(ctx context.Context, r *pb.RetractRequest) (*pb.RetractResponse, error) {
	return p.s.retract(ctx, principalOf(ctx), r)
}

// update gives a notification other data, as notify does it: for user after user, and it fails only where not one has a good result.
func (s *Server) update(ctx context.Context, p *auth.Principal, r *pb.UpdateRequest) (*pb.UpdateResponse, error) {
	var m mistakes
	m.oneItem(r.Id, r.CollapseKey)
	topics := s.Limits.audience(&m, r.To)
	m.data(&r.Data, s.Limits.Notification)
	m.want(r.GetVersion() >= 0, "version", "0 or more")
	m.add("origin", notify.CheckOrigin(r.Origin))
	m.level(int32(r.Level), pb.UpdateRequest_Level_name)
	if err := m.err(); err != nil {
		return nil, err
	}
	of := store.UpdateOf{ID: r.Id, Collapse: r.CollapseKey, Data: r.Data, Version: r.Version, Origin: r.Origin}
	results, err := s.change(ctx, p, "UPDATE", r.To, topics, func(ctx context.Context, to []notify.Stream) []store.Result {
		return s.Store.Update(ctx, to, of, store.Level(r.Level))
	})
	if results == nil {
		return nil, err
	}
	reply := &pb.UpdateResponse{Id: r.Id, Results: results}
	if err != nil {
		return nil, &failedReply{err, reply}
	}
	return reply, nil
}

// retract takes a notification back.
func (s *Server) retract(ctx context.Context, p *auth.Principal, r *pb.RetractRequest) (*pb.RetractResponse, error) {
	var m mistakes
	m.oneItem(r.Id, r.CollapseKey)
	topics := s.Limits.audience(&m, r.To)
	m.add("origin", notify.CheckOrigin(r.Origin))
	m.level(int32(r.Level), pb.RetractRequest_Level_name)
	if err := m.err(); err != nil {
		return nil, err
	}
	of := store.RetractOf{ID: r.Id, Collapse: r.CollapseKey, Origin: r.Origin}
	results, err := s.change(ctx, p, "RETRACT", r.To, topics, func(ctx context.Context, to []notify.Stream) []store.Result {
		return s.Store.Retract(ctx, to, of, store.Level(r.Level))
	})
	if results == nil {
		return nil, err
	}
	reply := &pb.RetractResponse{Id: r.Id, Results: results}
	if err != nil {
		return nil, &failedReply{err, reply}
	}
	return reply, nil
}

// oneItem checks what names the notification that is to be changed.
func (m *mistakes) oneItem(id, collapse string) {
	m.want((id == "") != (collapse == ""), "id", "exactly one of id and collapse_key")
	if id != "" {
		m.add("id", notify.CheckID(id))
	}
	m.add("collapse_key", notify.CheckCollapse(collapse))
}

// change does what is asked for to the item of each of an audience. Without results nothing was tried; with an error and results not one is good.
func (s *Server) change(ctx context.Context, p *auth.Principal, mode string, to *pb.Audience, topics []notify.Topic, do writer) (all []*pb.ChangeResult, failed error) {
	if err := mayNotify(p, to); err != nil {
		return nil, err
	}
	streams, at := distinct(p.Tenant, topics)
	ctx, cancel := withReserve(ctx)
	defer cancel()
	results := s.writeAll(ctx, streams, do)
	good := 0
	all = make([]*pb.ChangeResult, len(topics))
	for i := range topics {
		got, again := at.result(results, i)
		code, message := resultOf(got.Err)
		if got.Err == nil {
			good++
		} else if failed == nil {
			failed = got.Err
		}
		one := &pb.ChangeResult{Code: code, Message: message}
		one.User, one.Segment = named(to, i)
		if got.Changed && !again { // who stands twice finds it done
			one.Changed, one.Pos = true, position(got.Position)
		}
		all[i] = one
		s.Metrics.wrote(mode, code)
	}
	if good > 0 {
		failed = nil
	}
	return all, failed
}
