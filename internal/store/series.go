package store

import (
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

const callMessages = 64 // at most in one call of a script

// A series is messages that go to one stream one after the other, in one call.
type series struct {
	stream   notify.Stream
	messages []message
	ops      []*op   // whose they are; nil: they are made again
	replies  []reply // in that order, where err is nil
	err      error   // of all of them
}

// A message is a write that is no mark.
type message struct {
	*write
	was ackedAs
}

// callOf is one call of several series: of event topics, or of users' streams.
func (s *Store) callOf(all []*series) call {
	if all[0].stream.Topic.Kind() == notify.KindUser {
		return s.notifyCall(all)
	}
	return s.publishCall(all)
}

func (s *Store) publishCall(all []*series) call {
	c := call{script: publishScript, args: []any{newEpoch(), dedupeIDs, s.publishCmd}}
	for _, one := range all {
		index, tick := s.keys.ChangeIndex(s.keys.Partition(one.stream))
		c.keys = append(append(c.keys, s.keys.Event(one.stream).All()...), index, tick, s.keys.Channel(one.stream))
		h := s.history(one.stream.Topic)
		c.args = append(c.args, h.Size, h.TTL.Milliseconds(), metaLife(h).Milliseconds(), keyspace.Member(one.stream), len(one.messages))
		for _, m := range one.messages {
			c.args = append(c.args, m.id, m.body, m.was.at.Epoch, m.was.at.Offset)
		}
	}
	return c
}

func (s *Store) notifyCall(all []*series) call {
	c := call{script: notifyScript, args: []any{newEpoch(), inboxEvents, s.inboxIDs(), s.inbox.Retention.Milliseconds(), s.publishCmd, s.inbox.Size}}
	for _, one := range all {
		c.keys = append(c.keys, s.inboxKeys(one.stream)...)
		c.args = append(c.args, keyspace.Member(one.stream), len(one.messages))
		for _, m := range one.messages {
			head := ""
			if m.change == notify.ChangeNotification {
				head = keyspace.EncodeHead(m.category)
			}
			c.args = append(c.args, m.id, m.body, string(rune(m.change)), head, m.category, m.was.at.Epoch, m.was.at.Offset)
		}
	}
	return c
}

// inboxIDs is how many ids a user's stream remembers besides its items'.
func (s *Store) inboxIDs() int { return max(dedupeIDs, s.inbox.Size) }

// seriesMost is how many messages a series of a stream may have. An inbox keeps all of a call's (lua/notify.lua).
func (s *Store) seriesMost(st notify.Stream) int {
	if st.Topic.Kind() == notify.KindUser {
		return min(callMessages, s.inbox.Size)
	}
	return callMessages
}

// A streamError is what Redis said of one stream of a call.
type streamError string

func (e streamError) Error() string { return string(e) }

// RedisError makes it one of go-redis'.
func (streamError) RedisError() {}

// readSeries reads what a call of series answered (lua/many.lua).
func readSeries(all []*series, c *redis.Cmd) {
	v, err := slice(c)
	if err == nil && len(v) != 1+len(all) {
		err = fmt.Errorf("script answered %d values, not %d", len(v), 1+len(all))
	}
	for i, one := range all {
		if one.err = err; err == nil {
			one.replies, one.err = one.read(historyOf(v[0]), v[1+i])
		}
	}
}

func (one *series) read(history string, v any) ([]reply, error) {
	if failed, ok := v.(string); ok {
		return nil, classify(streamError(strings.Clone(failed)))
	}
	const fields = 4
	got, _ := v.([]any)
	if len(got) != 1+fields*len(one.messages) {
		return nil, fmt.Errorf("script answered %d values for %d messages", len(got), len(one.messages))
	}
	epoch := strings.Clone(text(got[0])) // see parseMark
	replies := make([]reply, len(one.messages))
	for i, m := range one.messages {
		f := got[1+fields*i:]
		r := reply{code: number(f[0]), history: history, receivers: number(f[2]), unread: number(f[3]), at: notify.Position{Epoch: epoch}}
		var err error
		if r.at.Offset, err = parseOffset(f[1]); err != nil {
			return nil, err
		}
		if r.code == codeHeld {
			r.at = m.was.at
		}
		replies[i] = r
	}
	return replies, nil
}

// A request is a call and who reads its reply.
type request struct {
	call
	read func(*redis.Cmd)
}

func callsOf(requests []request) []call {
	calls := make([]call, len(requests))
	for i, r := range requests {
		calls[i] = r.call
	}
	return calls
}

// markRequest is the request of a mark. read takes what became of it.
func markRequest(c call, read func(reply, error)) request {
	return request{c, func(c *redis.Cmd) { read(parseMark(c)) }}
}

// requests are those of the turns' writes. Messages share calls, on a cluster those of a partition; a stream that failed before has its own, so that what it fails
// for is not the others'.
func (s *Store) requests(turns []turn) (out []request) {
	type place struct {
		part int
		kind notify.Kind
	}
	open := map[place][]*series{}
	count := map[place]int{} // their messages
	for _, t := range turns {
		if len(t.ops) == 0 {
			continue
		}
		if o := t.ops[0]; o.write.kind() == opMark {
			s.number(o)
			out = append(out, markRequest(o.call, func(got reply, err error) { o.reply, o.err = got, err }))
			continue
		}
		one := &series{stream: t.lane.stream, ops: t.ops}
		for _, o := range t.ops {
			one.messages = append(one.messages, message{o.write, o.was})
		}
		p := place{kind: one.stream.Topic.Kind()}
		if s.cluster {
			p.part = t.lane.part
		}
		if t.alone {
			out = append(out, s.shared([]*series{one}))
			continue
		}
		if count[p]+len(t.ops) > callMessages {
			out = append(out, s.shared(open[p]))
			open[p], count[p] = nil, 0
		}
		open[p], count[p] = append(open[p], one), count[p]+len(t.ops)
	}
	for _, all := range open {
		out = append(out, s.shared(all))
	}
	return out
}

// shared is the request of series that ops wait for.
func (s *Store) shared(all []*series) request {
	return request{s.callOf(all), func(c *redis.Cmd) {
		readSeries(all, c)
		for _, one := range all {
			for i, o := range one.ops {
				if o.err = one.err; o.err == nil {
					o.reply = one.replies[i]
				}
			}
		}
	}}
}

// again is the request of a write that is made again.
func (s *Store) again(st notify.Stream, w write, was ackedAs, read func(reply, error)) request {
	w.body = keyspace.ReplayedBody(w.body)
	if w.kind() == opMark {
		return markRequest(s.markCall(st, &w, span{}, was), read)
	}
	all := []*series{{stream: st, messages: []message{{&w, was}}}}
	return request{s.callOf(all), func(c *redis.Cmd) {
		if readSeries(all, c); all[0].err != nil {
			read(reply{}, all[0].err)
			return
		}
		read(all[0].replies[0], nil)
	}}
}
