package store

import (
	"context"
	"io/fs"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/pkg/notify"
)

// DueMost sets the time after which a look begins no other pipeline.
func (s *Store) DueMost(d time.Duration) { s.dueMost = d }

// Waiting is the number of writes that wait or are at work.
func (s *Store) Waiting() int {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	return s.writer.ops
}

// Busy is the number of pipelines at work.
func (s *Store) Busy() (n int) {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	for _, g := range s.writer.groups {
		n += g.busy[0] + g.busy[1]
	}
	return n
}

// RingMost sets the bytes that the ring may hold.
func (s *Store) RingMost(bytes int) { s.ring.most = bytes }

// Age makes what the ring holds older.
func (s *Store) Age(by time.Duration) {
	s.ring.mu.Lock()
	defer s.ring.mu.Unlock()
	for i := range s.ring.parts {
		for e := s.ring.parts[i].entries.Front(); e != nil; e = e.Next() {
			e.Value.(*entry).since = e.Value.(*entry).since.Add(-by)
		}
		for _, k := range s.ring.parts[i].streams {
			if k.behind > 0 {
				k.behind = min(k.behind+int(by/pollEvery), ringStuck)
			}
		}
	}
}

// Polled gives the ring a poll of a stream's partition, of that history and from that time, and returns how many writes it let go as stuck.
func (s *Store) Polled(st notify.Stream, history string, at time.Time) int {
	_, stuck := s.ring.polled(s.keys.Partition(st), poll{at: at, history: history})
	return stuck
}

// Primary is who counts as the primary after all Sentinels have answered with addr and epoch, when known was known at the end and asked at the beginning.
func Primary(addr string, epoch, known, asked int64) string {
	s := &sentinels{watched: true, at: answer{addr: "known", epoch: known}}
	return s.heard(answer{addr: addr, epoch: epoch}, true, asked)
}

// The bounds, for tests.
const (
	WaitingMost = waitingMost
	PassingMost = passingMost
	BatchWrites = batchWrites
	Flushers    = flushers

	ClusterGroups = clusterGroups
)

// Again makes a write again that was acknowledged with a position, by a Redis whose clock was far ahead, and returns what the script says; -100: it
// failed.
func (s *Store) Again(ctx context.Context, st notify.Stream, m *notify.Message, was notify.Position) (code int, at notify.Position) {
	w, _ := writeOf(m)
	w.ids = m.IDs
	r := s.again(st, *w, ackedAs{at: was, first: was, firstUS: 1 << 52}, func(got reply, err error) {
		if code, at = got.code, got.at; err != nil {
			code = -100
		}
	})
	r.read(s.run(ctx, opReplay, []call{r.call})[0])
	return code, at
}

// Remark makes the marks again that wait for their items, without their pauses, and returns when it is done.
func (s *Store) Remark(ctx context.Context) {
	s.remarkDue(time.Now().Add(time.Hour))
	s.writer.idle(ctx)
}

// Remarks is the number of marks that wait for their items.
func (s *Store) Remarks() int {
	unanswered, missing := s.remarksLeft()
	return unanswered + missing
}

// Calls is how many calls the next pipeline makes of one message to each stream, after that many attempts that failed. Nothing is sent.
func (s *Store) Calls(tries int, streams ...notify.Stream) int {
	for _, st := range streams {
		s.line(st, tries, notify.ChangeMessage)
	}
	return len(s.requests(s.writer.take(&s.writer.groups[0], 0)))
}

// Together is how many of a stream's writes go in one turn. Nothing is sent.
func (s *Store) Together(st notify.Stream, writes ...notify.Change) int {
	s.line(st, 0, writes...)
	return len(s.writer.take(&s.writer.groups[0], 0)[0].ops)
}

func (s *Store) line(st notify.Stream, tries int, writes ...notify.Change) {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	p := s.keys.Partition(st)
	l := &lane{stream: st, part: p, group: s.writer.groupOf(p), tries: tries}
	for _, c := range writes {
		l.queue = append(l.queue, &op{stream: st, part: p, write: &write{change: c, id: "m"}, share: 1})
	}
	s.writer.readyLocked(l)
}

// Tried makes a notification to each of many streams, and behind the first 65 a mark, all in one pipeline, once, and returns what became of each.
func (s *Store) Tried(to []notify.Stream, m *notify.Message, marked notify.Stream, mark *notify.Message) (messages []Result, err error) {
	w, _ := writeOf(m)
	var turns []turn
	var ops []*op
	add := func(st notify.Stream, w *write, c call) *op {
		o := &op{stream: st, write: w, call: c, share: 1}
		turns, ops = append(turns, turn{lane: &lane{stream: st, part: s.keys.Partition(st)}, ops: []*op{o}}), append(ops, o)
		return o
	}
	last := &op{} // of a few streams there is no mark
	for i, st := range to {
		if i == 65 {
			w := &write{change: mark.Change, ids: mark.IDs}
			last = add(marked, w, s.markCall(marked, w, span{}, ackedAs{}))
		}
		add(st, w, call{})
	}
	s.exec(turns)
	for _, o := range ops {
		if o != last {
			messages = append(messages, Result{Ack: o.reply.ack(), Err: o.err})
		}
	}
	return messages, last.err
}

// Series appends messages to a stream in one call.
func (s *Store) Series(ctx context.Context, st notify.Stream, ms ...*notify.Message) (out []Result, err error) {
	one, c := s.seriesOf(st, ms, false)
	readSeries([]*series{one}, s.evaluate(ctx, s.redis, []call{c}, nil)[0])
	for _, r := range one.replies {
		out = append(out, Result{Ack: r.ack()})
	}
	return out, one.err
}

// Notices is Series of a stream with terms.
func (s *Store) Notices(ctx context.Context, st notify.Stream, ms ...*notify.Message) (out []Result, err error) {
	one, c := s.seriesOf(st, ms, true)
	readSeries([]*series{one}, s.evaluate(ctx, s.redis, []call{c}, nil)[0])
	for _, r := range one.replies {
		out = append(out, Result{Ack: r.ack()})
	}
	return out, one.err
}

// Torn is Series where the last message is said to have been made before, at no number: there it fails.
func (s *Store) Torn(ctx context.Context, st notify.Stream, epoch string, ms ...*notify.Message) error {
	one, c := s.seriesOf(st, ms, true)
	at := len(c.args) - 2
	if st.Topic.Kind() == notify.KindUser {
		at -= 3
	}
	c.args[at], c.args[at+1] = epoch, "no number"
	readSeries([]*series{one}, s.evaluate(ctx, s.redis, []call{c}, nil)[0])
	return one.err
}

func (s *Store) seriesOf(st notify.Stream, ms []*notify.Message, terms bool) (*series, call) {
	one := &series{stream: st, terms: terms}
	for _, m := range ms {
		w, _ := writeOf(m)
		one.messages = append(one.messages, message{write: w})
	}
	return one, s.callOf([]*series{one})
}

var tellScript = redis.NewScript(luaOf("lib") + luaOf("events") + "tell(KEYS[1], KEYS[2], now_ms(), ARGV[1], ARGV[2], ARGV[3], '')\nreturn 1")

func luaOf(part string) string {
	src, err := fs.ReadFile(sources, "lua/"+part+".lua")
	if err != nil {
		panic(err)
	}
	return string(src)
}

// TellEvent tells backends of something that did not happen.
func TellEvent(ctx context.Context, s *Store, st notify.Stream, what notify.EventType, id string) error {
	k := s.keys.Backend(s.keys.Partition(st), st.Tenant)
	return s.run(ctx, opEvents, []call{{script: tellScript, keys: []string{k.Events, k.Meta}, args: []any{string(rune(what)), st.Topic.Name(), id}}})[0].Err()
}
