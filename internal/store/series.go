package store

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

const (
	callMessages = 64 // at most in one call of a script
	callTerms    = 16 // the same of lua/notice.lua, but for a series that is longer: what it does with a message takes several times as long
)

// A series is messages that go to one stream one after the other, in one call.
type series struct {
	stream   notify.Stream
	terms    bool // some of them have terms, or the stream has
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

// callOf is one call of several series: of event topics, of users' streams, with or without terms, or of segments.
func (s *Store) callOf(all []*series) call {
	switch {
	case !listed(all[0].stream):
		return s.publishCall(all)
	case all[0].terms || all[0].stream.Topic.Kind() == notify.KindSegment:
		return s.noticeCall(all)
	}
	return s.notifyCall(all)
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
			c.args = append(c.args, m.id, m.body, string(rune(m.change)), m.head, m.category)
		}
	}
	return c
}

// noticeCall is the call of messages to users' streams with terms, of those that are made again, and of what comes to segments.
func (s *Store) noticeCall(all []*series) call {
	items, ids, retention := s.boundsOf(all[0].stream)
	c := call{script: forKind(all[0].stream, noticeScript, noticeSegmentScript), args: []any{newEpoch(), inboxEvents, ids, retention.Milliseconds(), s.publishCmd, items}}
	for _, one := range all {
		c.keys = append(c.keys, s.termKeys(one.stream)...)
		c.args = append(c.args, keyspace.Member(one.stream), len(one.messages))
		for _, m := range one.messages {
			after := ""
			if m.after > 0 {
				after = strconv.FormatInt(m.after, 10)
			}
			c.args = append(c.args, m.id, m.body, string(rune(m.change)), m.head, after, m.escalate, m.was.at.Epoch, m.was.at.Offset,
				m.was.first.Epoch, m.was.first.Offset, m.was.firstUS)
		}
	}
	return c
}

// inboxIDs is how many ids a user's stream remembers besides its items'.
func (s *Store) inboxIDs() int { return max(dedupeIDs, s.inbox.Size) }

// seriesMost is how many messages a series of a stream may have. An inbox keeps all of a call's (lua/notify.lua).
func (s *Store) seriesMost(st notify.Stream) int {
	if !listed(st) {
		return callMessages
	}
	items, _, _ := s.boundsOf(st)
	return min(callMessages, items)
}

// A streamError is what Redis said of one stream of a call.
type streamError string

func (e streamError) Error() string { return string(e) }

// RedisError makes it one of go-redis'.
func (streamError) RedisError() {}

// readSeries reads what a call of series answered (lua/many.lua).
func readSeries(all []*series, c *redis.Cmd) {
	const fixed = 2
	v, err := slice(c)
	if err == nil && len(v) != fixed+len(all) {
		err = fmt.Errorf("script answered %d values, not %d", len(v), fixed+len(all))
	}
	for i, one := range all {
		if one.err = err; err == nil {
			us, _ := v[1].(int64)
			one.replies, one.err = one.read(historyOf(v[0]), us, v[fixed+i])
		}
	}
}

func (one *series) read(history string, us int64, v any) ([]reply, error) {
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
		r := reply{code: number(f[0]), history: history, us: us, receivers: number(f[2]), unread: number(f[3]), at: notify.Position{Epoch: epoch}}
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
	ops  []*op                      // that wait for it; nil: it is made again
	read func(*redis.Cmd) []request // the requests, if any, that are to be made instead
}

func callsOf(requests []request) []call {
	calls := make([]call, len(requests))
	for i, r := range requests {
		calls[i] = r.call
	}
	return calls
}

// singleRequest is the request of a mark or another change. read takes what became of it.
func singleRequest(c call, w *write, read func(reply, error)) request {
	parse := parseChange
	if w.kind() == opMark {
		parse = parseMark
	}
	return request{call: c, read: func(c *redis.Cmd) []request {
		read(parse(c))
		return nil
	}}
}

// requests are those of the turns' writes. Messages share calls, on a cluster those of a partition; a stream that failed before has its own, so that what it fails
// for is not the others'.
func (s *Store) requests(turns []turn) (out []request) {
	type place struct {
		part  int
		kind  notify.Kind
		terms bool
	}
	open := map[place][]*series{}
	count := map[place]int{} // their messages
	for _, t := range turns {
		if len(t.ops) == 0 {
			continue
		}
		if o := t.ops[0]; o.write.single() {
			s.number(o)
			r := singleRequest(o.call, o.write, func(got reply, err error) { o.reply, o.err = got, err })
			r.ops = t.ops
			out = append(out, r)
			continue
		}
		one := &series{stream: t.lane.stream, ops: t.ops, terms: t.lane.stream.Topic.Kind() == notify.KindSegment || s.terms.has(t.lane.stream)}
		for _, o := range t.ops {
			one.messages = append(one.messages, message{o.write, o.was})
			one.terms = one.terms || o.write.terms
		}
		p, most := place{kind: one.stream.Topic.Kind(), terms: one.terms}, callMessages
		if one.terms {
			most = callTerms
		}
		if s.cluster {
			p.part = t.lane.part
		}
		if t.alone {
			out = append(out, s.shared([]*series{one}))
			continue
		}
		if len(open[p]) > 0 && count[p]+len(t.ops) > most {
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

// shared is the request of series that ops wait for. Those that turn out to have terms go again, as such.
func (s *Store) shared(all []*series) request {
	r := request{call: s.callOf(all)}
	for _, one := range all {
		r.ops = append(r.ops, one.ops...)
	}
	r.read = func(c *redis.Cmd) (others []request) {
		readSeries(all, c)
		for _, one := range all {
			if one.err == nil && !one.terms && one.replies[0].code == codeTerms {
				s.terms.add(one.stream)
				one.terms = true
				others = append(others, s.shared([]*series{one}))
				continue
			}
			for i, o := range one.ops {
				if o.err = one.err; o.err == nil {
					o.reply = one.replies[i]
				}
			}
		}
		return others
	}
	return r
}

// singleCall is the call of a mark of its ids, or another change, that is made again.
func (s *Store) singleCall(st notify.Stream, w *write, was ackedAs) call {
	switch w.kind() {
	case opMark:
		return s.markCall(st, w, span{}, was)
	case opPreferences:
		return s.preferencesCall(st, w, was)
	}
	return s.changeCall(st, w, was)
}

// again is the request of a write that is made again.
func (s *Store) again(st notify.Stream, w write, was ackedAs, read func(reply, error)) request {
	w.body = keyspace.ReplayedBody(w.body)
	if w.single() {
		return singleRequest(s.singleCall(st, &w, was), &w, read)
	}
	all := []*series{{stream: st, terms: true, messages: []message{{&w, was}}}}
	return request{call: s.callOf(all), read: func(c *redis.Cmd) []request {
		if readSeries(all, c); all[0].err != nil {
			read(reply{}, all[0].err)
		} else {
			read(all[0].replies[0], nil)
		}
		return nil
	}}
}
