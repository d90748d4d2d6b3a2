package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"

	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

// maxAway is how many messages are written while a page is away: fewer than any history holds but that of the short topic.
const maxAway = 40

// ids makes every id of the run its own.
var ids atomic.Int64

func (p *play) id(kind string) string { return fmt.Sprintf("%s-%s-%d", kind, p.name, ids.Add(1)) }

func (p *play) chance(percent int) bool { return p.rng.IntN(100) < percent }

func pick[T any](p *play, list []T) T { return list[p.rng.IntN(len(list))] }

// next chooses a step that writes at most left messages.
func (p *play) next(left int) step {
	switch n := p.rng.IntN(100); {
	case n < 70:
		return p.publish(left)
	case n < 84:
		return p.notify(left)
	case n < 92:
		return p.mark()
	case n < 96:
		return p.markByBackend()
	default:
		return p.drop()
	}
}

// publish writes an event on some of the topics, now and then to a user, now and then twice with the same id.
func (p *play) publish(left int) step {
	all := append([]string{p.short}, p.topics...)
	if p.chance(10) {
		all = append(all, "user:"+pick(p, p.users))
	}
	p.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	r := &pb.PublishRequest{Id: p.id("m"), Topics: all[:min(left, 1+p.rng.IntN(len(all)))], Event: "e", Data: fmt.Appendf(nil, `{"n":%d}`, p.rng.Int())}
	again := p.chance(5)
	return step{weight: len(r.Topics), do: func() {
		p.call(func(ctx context.Context) error {
			got, err := p.backend.Publisher.Publish(ctx, r)
			for _, x := range got.GetResults() {
				p.truth.wrote(x.Topic, x.Pos, "message "+r.Id)
			}
			return err
		})
		if again {
			p.call(func(ctx context.Context) error {
				got, err := p.backend.Publisher.Publish(ctx, r)
				for _, x := range got.GetResults() {
					if !x.Duplicate || !p.truth.has(x.Topic, x.Pos, "message "+r.Id) {
						return fmt.Errorf("the second call with id %s: got %v, want a duplicate of the first", r.Id, x)
					}
				}
				return err
			})
		}
	}}
}

func (p *play) notify(left int) step {
	users := p.users
	if left == 1 || p.chance(60) {
		users = []string{pick(p, users)}
	}
	r := &pb.NotifyRequest{Id: p.id("n"), To: &pb.Audience{Users: users}, Category: pick(p, []string{"", "mention", "order"}), Data: fmt.Appendf(nil, `{"title":"%d"}`, p.rng.Int())}
	return step{weight: len(users), do: func() {
		p.call(func(ctx context.Context) error {
			got, err := p.backend.Publisher.Notify(ctx, r)
			for _, x := range got.GetResults() {
				if x.Code != code.Code_OK {
					return fmt.Errorf("notify %s: %v", x.User, x)
				}
				p.truth.wrote("user:"+x.User, x.Pos, "notification "+r.Id)
			}
			return err
		})
	}}
}

var marks = []string{"seen", "seen", "read", "read", "read", "unread", "unread", "archive", "unarchive", "delete"}

// which chooses the items of a mark as a page sees them: some by id, one of them nobody's; or up to a place; or all.
func (p *play) which(x *page) (by string, what any) {
	items := x.Items()
	at := x.Position("user:" + x.user)
	switch n := p.rng.IntN(10); {
	case n < 2 && at[0] != '-': // an empty stream has no place to mark up to
		if len(items) > 0 && p.chance(50) {
			at = pick(p, items).Pos
		}
		return "upto", at
	case n < 3:
		return "all", true
	}
	some := []string{p.id("nobody")}
	for range p.rng.IntN(4) {
		if len(items) > 0 {
			some = append(some, pick(p, items).ID)
		}
	}
	slices.Sort(some)
	return "ids", slices.Compact(some)
}

// mark is a page's own; one that is away sends it when it comes back.
func (p *play) mark() step {
	x, mark := pick(p, p.pages), pick(p, marks)
	by, what := p.which(x)
	return step{inline: true, do: func() { x.Mark(mark, by, what) }}
}

func (p *play) markByBackend() step {
	x, mark := pick(p, p.pages), pick(p, marks)
	r := &pb.MarkRequest{User: x.user, Mark: map[string]pb.MarkRequest_Mark{"seen": pb.MarkRequest_SEEN, "read": pb.MarkRequest_READ, "unread": pb.MarkRequest_UNREAD,
		"archive": pb.MarkRequest_ARCHIVE, "unarchive": pb.MarkRequest_UNARCHIVE, "delete": pb.MarkRequest_DELETE}[mark].Enum()}
	switch by, what := p.which(x); by {
	case "ids":
		r.Ids = what.([]string)
	case "upto":
		r.Upto = what.(string)
	default:
		r.All = true
	}
	return step{do: func() {
		p.call(func(ctx context.Context) error {
			got, err := p.backend.Inbox.Mark(ctx, r)
			if pos := got.GetPos(); pos != "" {
				p.truth.marked("user:"+r.User, pos)
			}
			return err
		})
	}}
}

// drop cuts the connection of a page.
func (p *play) drop() step {
	x := pick(p, p.pages)
	return step{inline: true, do: func() {
		if x.away == 0 {
			x.Drop()
			x.away = 1 + p.rng.IntN(maxAway)
		}
	}}
}

// call makes one call of the backend and fails the test, without ending it, where it fails.
func (p *play) call(do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), pods.Within)
	defer cancel()
	start := time.Now()
	if err := do(p.backend.As(ctx)); err != nil {
		p.t.Errorf("call after %v: %v", time.Since(start), err)
	}
}

// The truth is what the publisher acknowledged: topic to position to what stands there.
type truth struct {
	mu    sync.Mutex // guards the fields below
	at    map[string]map[string]string
	marks map[string][]string // topic to positions of marks
}

func (t *truth) init() { t.at, t.marks = map[string]map[string]string{}, map[string][]string{} }

func (t *truth) wrote(topic, pos, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at[topic] == nil {
		t.at[topic] = map[string]string{}
	}
	if was := t.at[topic][pos]; was != "" {
		what = was + " and " + what // one place twice: no page can have heard that
	}
	t.at[topic][pos] = what
}

func (t *truth) has(topic, pos, what string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at[topic][pos] == what
}

func (t *truth) marked(topic, pos string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.marks[topic] = append(t.marks[topic], pos)
}
