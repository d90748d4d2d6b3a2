package store

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/pkg/notify"
)

// attempt does what a flusher has taken: one pipeline, then what each reply means. A write is acknowledged when the ring has it, and after what
// Redis lost of its stream was written again.
func (s *Store) attempt(turns []turn) {
	s.exec(turns)
	var behind []turn // of streams whose ring knows another history than the one that answered
	for _, t := range turns {
		switch {
		case len(t.ops) == 0 || t.ops[0].err == nil && s.behind(t):
			behind = append(behind, t)
		default:
			s.settle(t)
		}
	}
	if len(behind) == 0 {
		return
	}
	s.writer.kick() // for the lanes that were let go: this one is not free yet
	s.replay(behind, func(t turn, err error) {
		for _, o := range t.ops {
			if err != nil {
				o.err = err
			}
		}
		s.settle(t) // where it only looked, Run looks again
		s.writer.kick()
	})
}

func (s *Store) behind(t turn) bool {
	return t.look || s.ring.behind(t.lane.part, t.lane.stream, t.ops[0].reply.history)
}

// exec runs the turns' writes in one pipeline and reads the replies. Their callers' deadlines bound it, the last of them.
func (s *Store) exec(turns []turn) {
	var ops []*op
	start := time.Now()
	most, until := start.Add(ioTimeout), start
	for _, t := range turns {
		for _, o := range t.ops {
			if end := o.until; end.IsZero() || end.After(most) {
				until = most
			} else if end.After(until) {
				until = end
			}
		}
		ops = append(ops, t.ops...)
	}
	if len(ops) == 0 {
		return
	}
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	for requests := s.requests(turns); len(requests) > 0; {
		cmds, short, err := s.reach(ctx, ops[0], callsOf(requests))
		var others []request
		for i, r := range requests {
			for _, o := range r.ops {
				o.err, o.short = err, short
			}
			if err == nil {
				others = append(others, r.read(cmds[i])...)
			}
		}
		requests = others
	}
	s.metrics.doneWrites(start, ops)
}

// reach runs calls for the level of one.
func (s *Store) reach(ctx context.Context, one *op, calls []call) (cmds []*redis.Cmd, short, err error) {
	if one.level == Committed {
		return s.evaluate(ctx, s.redis, calls, nil), nil, nil
	}
	return s.evaluateAt(ctx, s.keys.Partition(one.stream), calls, one.level)
}

// settle ends a turn: its ops are decided, or they are tried again.
func (s *Store) settle(t turn) {
	var again []*op
	for _, o := range t.ops {
		switch {
		case o.err == nil:
			if s.keep(o); s.goesOn(o) {
				again = append(again, o)
			}
		case o.then == nil && !o.gone() && errors.Is(o.err, notify.ErrUnavailable):
			s.metrics.retried()
			again = append(again, o)
		}
	}
	s.writer.finish(t, again)
}

// goesOn takes what a part of a mark did, and tells whether there is more of it: the op is then the next part, of what the first one saw.
func (s *Store) goesOn(o *op) bool {
	if o.write.kind() != opMark || o.reply.code < 0 {
		return false
	}
	if o.marked.Changed += o.reply.code; o.reply.code > 0 {
		o.marked.Position = o.reply.at
	}
	if o.reply.more == "" {
		return false
	}
	if o.span.how == "all" {
		o.span.how, o.span.upto = "upto", o.reply.at
	}
	o.span.from = o.reply.more
	o.call = s.markCall(o.stream, o.write, o.span, o.was)
	return true
}

// keep puts what was just committed into the ring.
func (s *Store) keep(o *op) {
	if !o.reply.acknowledged(o.write) {
		return
	}
	w := *o.write
	switch w.kind() {
	case opUpdate, opRetract: // what came in the place of the item since is another one
		w.named, w.id = namedAlone, o.reply.id
	case opMark:
		unknown, meant := o.reply.ids() // what was as it should be is acknowledged, too
		if w.ids = without(w.ids, unknown); len(meant) > 0 {
			w.ids = meant
		}
		if len(w.ids) == 0 {
			return
		}
	}
	s.ring.add(s.keys.Partition(o.stream), o.stream, w, o.was, o.reply, time.Now())
}

// without returns those of ids that are not in some.
func without(ids, some []string) []string {
	if len(some) == 0 {
		return ids
	}
	drop := make(map[string]bool, len(some))
	for _, id := range some {
		drop[id] = true
	}
	var out []string
	for _, id := range ids {
		if !drop[id] {
			out = append(out, id)
		}
	}
	return out
}
