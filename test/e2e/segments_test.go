package e2e

import (
	"slices"
	"testing"

	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

// tellSegment writes to a segment, and returns the one result.
func tellSegment(b *pods.Backend, t *testing.T, segment, id, category string) *pb.NotifyResult {
	t.Helper()
	r, err := b.Publisher.Notify(b.Call(), &pb.NotifyRequest{Id: id, To: &pb.Audience{Segment: segment}, Category: category, Data: []byte(`{"title":"hi"}`)})
	if err != nil || len(r.Results) != 1 || r.Results[0].GetSegment() != segment {
		t.Fatalf("%s to %s: %v, %v", id, segment, r, err)
	}
	return r.Results[0]
}

func counts(f pods.Frame, unread, unseen int) bool {
	return f.Type == "badge" && f.Badge != nil && f.Badge.Unread == unread && f.Badge.Unseen == unseen
}

func isNotification(id string) func(pods.Frame) bool {
	return func(f pods.Frame) bool { return f.Type == "notification" && f.ID == id }
}

// One write reaches the members at every gateway, who is away finds it, who joins later does not, and each has its own state of it, on its devices and for backends.
func TestASegmentIsWrittenOnceAndEachMemberHasItForItself(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{Gateways: 2})
	b := pods.NewBackend(t, stage.Publishers[0], "default")
	member := pods.Grant{Segments: []string{"org-7"}}
	come := func(gateway int, user string, inbox int, g pods.Grant) (*pods.Client, pods.Frame) {
		t.Helper()
		c := pods.Connect(t, stage.Gateways[gateway], pods.Hello{Token: pods.Token(t, user, g), Inbox: inbox})
		return c, c.Next("welcome")
	}
	phone, _ := come(0, "ann", 0, member)
	laptop, _ := come(1, "ann", 0, member)
	ben, _ := come(1, "ben", 0, member)
	stranger, _ := come(0, "cid", 0, pods.Grant{})
	away, _ := come(0, "dan", 0, member)
	away.Drop()

	if first := tellSegment(b, t, "org-7", "n1", "news"); first.Pos == "" || first.Duplicate {
		t.Errorf("written: %v", first)
	}
	if again := tellSegment(b, t, "org-7", "n1", "news"); !again.Duplicate {
		t.Errorf("written again: %v", again)
	}
	for _, c := range []*pods.Client{phone, laptop, ben} {
		c.Await("n1", isNotification("n1"))
		c.Await("the badge that follows", func(f pods.Frame) bool { return counts(f, 1, 1) })
	}
	phone.Send(`{"type":"read","ids":["n1"],"ref":1}`)
	if f := phone.Answer(1); f.Changed != 1 || len(f.Unknown) > 0 {
		t.Errorf("marked: %s", f.Raw)
	}
	laptop.Await("the mark of the phone", func(f pods.Frame) bool { return f.Type == "badge" && slices.Equal(f.Change["read"], []string{"n1"}) })
	laptop.Await("no badge", func(f pods.Frame) bool { return counts(f, 0, 0) })
	for user, want := range map[string]int32{"ann": 0, "ben": 1, "dan": 1, "cid": 0} {
		if got := b.Counts(user); got.Unread != want {
			t.Errorf("a backend counts %d unread of %s, want %d", got.Unread, user, want)
		}
	}

	_, welcome := come(1, "eve", 5, member)
	if welcome.Badge.Unread != 0 {
		t.Errorf("who joins later begins with %s", welcome.Raw)
	}
	tellSegment(b, t, "org-7", "n2", "news")
	back, welcome := come(1, "dan", 5, member)
	if list := back.Next("inbox"); welcome.Badge.Unread != 2 || len(list.Items) != 2 || list.Items[0].ID != "n2" || list.At["segment:org-7"] == "" {
		t.Errorf("who was away gets %s and %s", welcome.Raw, list.Raw)
	}
	if got := b.Counts("eve"); got.Unread != 1 {
		t.Errorf("who joined later has %d unread", got.Unread)
	}
	read := pb.MarkRequest_READ
	if m, err := b.Inbox.Mark(b.Call(), &pb.MarkRequest{User: "dan", Mark: &read, All: true}); err != nil || m.Changed != 2 {
		t.Errorf("marked by a backend: %v, %v", m, err)
	}
	back.Await("what the backend marked", func(f pods.Frame) bool { return counts(f, 0, 0) })
	if items := inboxOf(b, "ann"); !slices.Equal(items, []string{"n2", "n1"}) {
		t.Errorf("ann has %q", items)
	}

	tellSegment(b, t, "all", "n3", "")
	stranger.Await("what everybody gets, and nothing before", func(f pods.Frame) bool {
		if f.Type == "notification" && f.ID != "n3" {
			t.Errorf("a stranger got %s", f.Raw)
		}
		return f.Type == "notification" && f.Topic == "segment:all"
	})
	stranger.Await("its badge", func(f pods.Frame) bool { return counts(f, 1, 1) })
	if got := b.Counts("never-seen"); got.Unread != 1 {
		t.Errorf("who never came has %d unread", got.Unread)
	}
}
