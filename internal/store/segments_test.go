package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/pkg/notify"
)

// tell has the publisher write to a segment.
func (b *bench) tell(m *notify.Message) store.Ack {
	b.Helper()
	r := b.Publish(b.ctx, []notify.Stream{org}, m)[0]
	if r.Err != nil {
		b.Fatalf("write %s: %v", m.ID, r.Err)
	}
	return r.Ack
}

// wantItems compares the ids that a segment's board has, the oldest first.
func (b *bench) wantItems(what, want string) {
	b.Helper()
	var got []string
	for _, h := range b.boards(org)[0].Items {
		got = append(got, h.ID)
	}
	if strings.Join(got, " ") != want {
		b.Fatalf("%s: got %q, want %q", what, got, want)
	}
}

func TestASegmentIsWrittenOnceForAll(t *testing.T) {
	onEach(t, store.Options{Segments: store.Segments{Size: 4}}, func(b *bench) {
		sub := b.listen(org)
		first := b.tell(notification("n1", "news"))
		if first.Position.Offset != 1 || first.Unread != 0 {
			b.Errorf("the first is %+v", first)
		}
		got, err := sub.ReceiveMessage(b.ctx)
		if err != nil {
			b.Fatal(err)
		}
		m, err := keyspace.DecodePayload(org, got.Payload)
		if err != nil || m.ID != "n1" || m.Position != first.Position || m.Category != "news" || m.Badge != nil {
			b.Errorf("members hear %+v, %v", m, err)
		}
		if again := b.tell(notification("n1", "news")); !again.Duplicate || again.Position != first.Position {
			b.Errorf("the same again is %+v", again)
		}
		must := notification("n2", "news")
		must.Terms = &notify.Terms{Mandatory: true}
		b.tell(must)
		b.tell(collapsing("n3", "news", "key"))
		b.tell(collapsing("n4", "news", "key"))
		h := b.boards(org)[0]
		if now := time.Now().UnixMilli(); h.Items[0].Time < now-60_000 || h.Items[0].Time > now+60_000 || h.Items[0].Mandatory || !h.Items[1].Mandatory {
			b.Errorf("heads are %+v", h.Items)
		}
		if refs := h.Named(map[string]bool{"n3": true}, time.Now()); len(refs) != 1 || refs[0].ID != "n4" {
			b.Errorf("n3 is %v", refs)
		}
		b.wantItems("n4 took the place of n3", "n1 n2 n4")
		b.tell(notification("n5", ""))
		b.tell(notification("n6", ""))
		b.wantItems("the newest four", "n2 n4 n5 n6")
		for _, suffix := range []string{"u", "n", "a", "c", "g", "q"} {
			if key := strings.TrimSuffix(b.keys.Segment(org).Meta, "m") + suffix; b.rdb.Exists(b.ctx, key).Val() != 0 {
				b.Errorf("somebody's state stands at %s", key)
			}
		}
		k := b.keys.Segment(org)
		for _, key := range []string{k.Meta, k.Events, k.Dedupe, k.Index, k.Items, k.Collapse} {
			if life := b.rdb.PTTL(b.ctx, key).Val(); life < 89*24*time.Hour {
				b.Errorf("%s lives for %s", key, life)
			}
		}
		b.rdb.PExpire(b.ctx, k.Meta, time.Hour)
		b.rdb.PExpire(b.ctx, k.Items, time.Hour)
		if err := b.Renew(b.ctx, []notify.Stream{org}); err != nil {
			b.Fatal(err)
		}
		if life := b.rdb.PTTL(b.ctx, k.Items).Val(); life < 89*24*time.Hour {
			b.Errorf("renewed, items live for %s", life)
		}
	})
}

func TestASegmentGoesOnWhereAPositionStandsOrIsListedAnew(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		none := b.recover(org, notify.Position{}, 10)
		if none.Outcome != notify.Empty || none.Badge != nil {
			b.Errorf("no segment: %+v", none)
		}
		first := b.tell(notification("n1", ""))
		last := b.tell(notification("n2", ""))
		if r := b.recover(org, first.Position, 10); r.Outcome != notify.Delta || !slices.Equal(ids(r.Messages), []string{"n2"}) || r.Top != last.Position {
			b.Errorf("after the first: %+v", r)
		}
		if r := b.recover(org, none.Position, 10); r.Outcome != notify.Delta || len(r.Messages) != 2 {
			b.Errorf("from before it was: %+v", r)
		}
		if r := b.recover(org, at("aaaaaa", 1), 10); r.Outcome != notify.Reset || r.Position != last.Position {
			b.Errorf("of an unknown epoch: %+v", r)
		}
	})
}

func TestItemsOfSegmentsChangeAndEnd(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.tell(notification("n1", ""))
		soonOver := expiring("n2", "", 300*time.Millisecond)
		b.tell(soonOver)
		later := notification("n3", "")
		later.Terms = &notify.Terms{NotBefore: time.Now().Add(300 * time.Millisecond).Truncate(time.Millisecond)}
		if ack := b.tell(later); !ack.Scheduled {
			b.Errorf("one of later: %+v", ack)
		}
		to := []notify.Stream{org}
		if r := b.publisher.Update(b.ctx, to, store.UpdateOf{ID: "n1", Data: []byte(`"new"`)}, store.Committed)[0]; r.Err != nil || !r.Changed {
			b.Errorf("updated: %+v", r)
		}
		if r := b.publisher.Update(b.ctx, to, store.UpdateOf{ID: "n9", Data: []byte(`1`)}, store.Committed)[0]; !errors.Is(r.Err, notify.ErrNotFound) {
			b.Errorf("updated what is not there: %+v", r)
		}
		b.wantItems("at first", "n1 n2")
		b.past(later.Terms.NotBefore)
		b.past(soonOver.ExpiresAt)
		b.due()
		b.wantItems("then", "n1 n3")
		if r := b.publisher.Retract(b.ctx, to, store.RetractOf{ID: "n1"}, store.Committed)[0]; r.Err != nil || !r.Changed {
			b.Errorf("taken back: %+v", r)
		}
		b.wantItems("at last", "n3")
	})
}

func TestNothingButNotificationsComesToSegments(t *testing.T) {
	b := realBench(t, store.Options{})
	told := notification("n1", "")
	told.Terms = &notify.Terms{Escalate: &notify.Escalate{Unless: notify.ChangeSeen, After: time.Minute, Via: notify.ViaWebhook}}
	brief := message("n1")
	brief.Change = notify.ChangeEphemeral
	size := b.dbsize()
	for what, m := range map[string]*notify.Message{"a message": message("n1"), "an ephemeral one": brief, "one that escalates": told} {
		if r := b.Publish(b.ctx, []notify.Stream{org}, m)[0]; !errors.Is(r.Err, notify.ErrInvalid) {
			t.Errorf("%s: %+v", what, r)
		}
	}
	if n := b.dbsize(); n != size {
		t.Errorf("%d keys more", n-size)
	}
}
