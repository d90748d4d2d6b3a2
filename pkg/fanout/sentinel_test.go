package fanout_test

import (
	"testing"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

func TestBehindSentinelTheLinkGoesToWhoWasPromoted(t *testing.T) {
	t.Parallel()
	w := testkit.Sentinel(t, testkit.SentinelOptions{})
	b := newStoreBed(t, func(role string) store.Connection {
		name, pass := testkit.User(t, role)
		return store.Connection{URL: w.As(role), Sentinel: store.Sentinel{Master: testkit.WatchedName, Addresses: w.Addresses(), Username: name, Password: pass}}
	})
	h := b.hub(t, "g1")
	topics := []notify.Stream{topic("a"), topic("b"), topic("user:42")}
	sinks := make([]*sink, len(topics))
	for i, s := range topics {
		sinks[i] = newSink()
		h.Attach(s, fromNow, sinks[i])
		wantBegin(t, sinks[i], 1)
	}
	l := b.load(t, topics)
	l.more(t, 3)
	old := w.Primary()
	old.Stop()
	w.Promoted(old, settled)
	l.more(t, 3)
	l.stop()
	resets := 0
	for i, s := range sinks {
		resets += s.wantAll(t, string(topics[i].Topic), int(l.sent[topics[i].Topic].Load()))
	}
	testkit.Eventually(t, settled, h.Ready, "ready with who was promoted")
	got := h.Stats()
	if got.Links != 1 || got.Generation < 2 || got.Epochs["continued"]+got.Epochs["lost"] == 0 || got.Regressions != 0 {
		t.Errorf("%d links in %d generations, epochs %v, %d regressions", got.Links, got.Generation, got.Epochs, got.Regressions)
	}
	t.Logf("%d resets for messages that the replica did not have; epochs %v", resets, got.Epochs)
}
