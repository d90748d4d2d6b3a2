package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"allim/internal/wire"
	"allim/pkg/notify"
)

const vectors = "../../proto/client/vectors/"

var rewrite = flag.Bool("rewrite", false, "write the frames of this build into the vectors")

var (
	at    = notify.Position{Epoch: "x1qrst", Offset: 9}
	noon  = time.UnixMilli(1_795_406_706_789).UTC()
	badge = &notify.Badge{Unread: 3, Unseen: 1, By: []notify.CategoryCount{{Category: "mention", Unread: 2}, {Category: "order", Unread: 1}}, Revision: at}
	three = 3
	hour  = 3600
)

func frame(f wire.Frame) []byte {
	b, err := wire.Encode(f)
	if err != nil {
		panic(err)
	}
	return b
}

func message(m notify.Message, counts bool) []byte {
	topic := notify.Topic("user:42")
	if m.Change == notify.ChangeMessage || m.Change == notify.ChangeEphemeral {
		topic = "orders/7"
	}
	m.Time = noon
	if m.Change != notify.ChangeEphemeral {
		m.Position = at
	}
	return wire.Message(topic, &m, counts)
}

// sent is every frame that the gateway sends, by the name of its vector.
var sent = []struct {
	name string
	b    []byte
}{
	{"welcome", frame(&wire.Welcome{Session: "s1", User: "42", Origin: "p9Xk3vQ0aLr7Tz1e", Ping: 25, ExpiresIn: &hour, Badge: wire.BadgeOf(badge),
		Topics: map[string]string{"user:42": at.String(), "orders/7": "k3abcd.40", "new": "-28339200.0"}, Recovered: []string{"orders/7"}})},
	{"welcome with a cursor", wire.With(frame(&wire.Welcome{Session: "s1", User: "42", Origin: "p9Xk3vQ0aLr7Tz1e", Ping: 25, ExpiresIn: &hour, Badge: wire.BadgeOf(badge),
		Topics: map[string]string{"user:42": at.String()}}), false, "AaB-_9")},
	{"welcome of an anonymous page", frame(&wire.Welcome{Session: "s2", Origin: "p9Xk3vQ0aLr7Tz1e", Ping: 25, Topics: map[string]string{"public/chat": "k3abcd.0"}})},
	{"message", message(notify.Message{Change: notify.ChangeMessage, ID: "ord-7-v41", Event: "order.updated", Data: []byte(`{"id":7,"sum":1.50}`)}, true)},
	{"message that this page caused", wire.With(message(notify.Message{Change: notify.ChangeMessage, ID: "ord-7-v41", Event: "order.updated", Data: []byte(`{"id":7}`)}, true), true, "")},
	{"message with a cursor", wire.With(message(notify.Message{Change: notify.ChangeMessage, ID: "ord-7-v41", Data: []byte(`null`)}, true), true, "AaB-_9")},
	{"message with every kind of character", message(notify.Message{Change: notify.ChangeMessage, ID: `!"\`, Event: "알림 \"<&>\\ \u2028", Data: []byte(`"\u00e9é"`)}, true)},
	{"message that comes again after a Redis that lost it", message(notify.Message{Change: notify.ChangeMessage, ID: "m1", Data: []byte(`1`), Replayed: true}, true)},
	{"ephemeral message", message(notify.Message{Change: notify.ChangeEphemeral, ID: "t1", Event: "typing", Data: []byte(`{"who":"ann"}`)}, true)},
	{"notification", message(notify.Message{Change: notify.ChangeNotification, ID: "n1", Category: "mention", Data: []byte(`{"title":"Ann mentioned you","url":"/t/5"}`), Badge: badge}, true)},
	{"notification that was missed", message(notify.Message{Change: notify.ChangeNotification, ID: "n1", Category: "mention", Data: []byte(`{"title":"Ann mentioned you"}`), Badge: badge}, false)},
	{"notification that ends, and takes another's place", message(notify.Message{Change: notify.ChangeNotification, ID: "n2", Replaces: "n1", Category: "mention", ExpiresAt: noon.Add(time.Hour),
		Data: []byte(`{"title":"Ann and 2 others mentioned you"}`), Badge: badge}, true)},
	{"update", message(notify.Message{Change: notify.ChangeUpdate, ID: "n1", Data: []byte(`{"title":"Ann and 2 others"}`), Badge: badge}, true)},
	{"update that this page caused and that comes again", wire.With(message(notify.Message{Change: notify.ChangeUpdate, ID: "n1", Data: []byte(`1`), Replayed: true}, false), true, "")},
	{"retract", message(notify.Message{Change: notify.ChangeRetract, ID: "n1", Badge: badge}, true)},
	{"retract that was missed", message(notify.Message{Change: notify.ChangeRetract, ID: "n1"}, false)},
	{"retract of what expired", message(notify.Message{Change: notify.ChangeExpire, ID: "n1", Badge: badge}, true)},
	{"retract of what is muted in a segment", wire.Muted("segment:org-7", &notify.Message{Change: notify.ChangeNotification, Position: at, ID: "n1", Category: "mention", Data: []byte(`1`)})},
	{"preferences", message(notify.Message{Change: notify.ChangePreferences, IDs: []string{"mention", "order"}, Badge: badge}, true)},
	{"preferences of who mutes nothing", message(notify.Message{Change: notify.ChangePreferences}, false)},
	{"preferences that answer", frame(&wire.Preferences{Ref: wire.Ref(`7`), Topic: "user:42", Pos: at.String(), Mute: []string{"mention"}})},
	{"badge of a mark", message(notify.Message{Change: notify.ChangeRead, IDs: []string{"n1", "n2"}, Badge: &notify.Badge{Revision: at}}, true)},
	{"badge of a mark that was missed", message(notify.Message{Change: notify.ChangeSeen, IDs: []string{"n1"}}, false)},
	{"badge after missed frames", frame(&wire.BadgeNow{Topic: "user:42", Badge: wire.BadgeOf(badge)})},
	{"inbox", frame(&wire.Inbox{Items: []wire.Item{wire.ItemOf(&notify.Item{Topic: "user:42", Position: at, ID: "n1", Category: "mention", Time: noon, Data: []byte(`{"title":"x"}`), Seen: true})},
		At: map[string]string{"user:42": at.String()}, Badge: wire.BadgeOf(badge)})},
	{"inbox with what will end", frame(&wire.Inbox{Items: []wire.Item{wire.ItemOf(&notify.Item{Topic: "segment:org-7", Position: at, ID: "n1", Time: noon, ExpiresAt: noon.Add(time.Hour), Data: []byte(`1`)})},
		At: map[string]string{"user:42": at.String(), "segment:org-7": at.String()}, Badge: wire.BadgeOf(badge)})},
	{"inbox that answers", frame(&wire.Inbox{Ref: wire.Ref(`5`), Items: []wire.Item{}, Before: "MC8vMg", At: map[string]string{"user:42": at.String()}, Badge: wire.BadgeOf(&notify.Badge{Revision: at})})},
	{"reset", frame(&wire.Reset{Topic: "orders/7", Pos: "k7ijkl.3", Reason: wire.ResetGone})},
	{"reset after a Redis that lost it", frame(&wire.Reset{Topic: "orders/7", Pos: "k7ijkl.3", Reason: wire.ResetLost})},
	{"subscribed", frame(&wire.Subscribed{Ref: wire.Ref(`1`), Topics: map[string]string{"orders/7": "k3abcd.41"}, Recovered: []string{"orders/7"}})},
	{"ok", frame(&wire.OK{})},
	{"ok of a mark", frame(&wire.OK{Ref: wire.Ref(`"a"`), Changed: &three, Unknown: []string{"n9"}, Pos: "x1qrst.14"})},
	{"error", frame(&wire.Error{Ref: wire.Ref(`3`), Code: wire.CodeForbidden, Topic: "x", Message: "the token does not allow it"})},
	{"error that passes", frame(&wire.Error{Code: wire.CodeBusy, Message: "try again later", RetryAfter: 3})},
	{"pong", frame(&wire.Pong{})},
	{"pong with a ref", frame(&wire.Pong{Ref: wire.Ref(`-1.5e3`)})},
	{"expiring", frame(&wire.Expiring{In: 60})},
	{"move", frame(&wire.Move{AfterMS: 4200})},
	{"move at once", frame(&wire.Move{})},
	{"degraded", frame(&wire.Degraded{What: wire.DegradedBroker})},
	{"restored", frame(&wire.Restored{})},
	{"close", frame(&wire.Close{Code: 4401, Reason: "expired"})},
}

type vectorFile struct {
	Frames []vector `json:"frames"`
}

type vector struct {
	Name  string          `json:"name"`
	From  string          `json:"from"`
	Frame json.RawMessage `json:"frame,omitempty"`
	Text  *string         `json:"text,omitempty"` // of a frame that is no JSON
	Code  string          `json:"code,omitempty"` // of the error that answers
	Says  string          `json:"says,omitempty"` // and its message
}

func TestTheGatewaysFramesAreTheVectors(t *testing.T) {
	if *rewrite {
		var f vectorFile
		for _, s := range sent {
			f.Frames = append(f.Frames, vector{Name: s.name, From: "gateway", Frame: s.b})
		}
		write(t, "gateway.json", f)
	}
	f := read(t, "gateway.json")
	if len(f.Frames) != len(sent) {
		t.Errorf("%d vectors for %d frames", len(f.Frames), len(sent))
	}
	for i, v := range f.Frames {
		if i >= len(sent) || v.Name != sent[i].name {
			t.Fatalf("vector %d is %q", i, v.Name)
		}
		var want bytes.Buffer
		if err := json.Compact(&want, v.Frame); err != nil {
			t.Fatal(err)
		}
		if got := sent[i].b; string(got) != want.String() {
			t.Errorf("%s:\n got %s\nwant %s", v.Name, got, want.String())
		}
	}
}

func TestClientFramesAreReadAsTheVectorsSay(t *testing.T) {
	f := read(t, "client.json")
	seen := map[string]bool{}
	for i := range f.Frames {
		v := &f.Frames[i]
		in := []byte(v.Frame)
		if v.Text != nil {
			in = []byte(*v.Text)
		}
		c, err := wire.Decode(in)
		if v.Code == "" {
			if err != nil {
				t.Errorf("%s: %v", v.Name, err)
			}
			seen[c.Type] = true
			continue
		}
		if *rewrite && err != nil {
			e, _ := wire.ErrorOf(err)
			v.Code, v.Says = e.Code, e.Message
		}
		if !errors.Is(err, notify.ErrInvalid) {
			t.Errorf("%s: got %v, want an error", v.Name, err)
			continue
		}
		if e, status := wire.ErrorOf(err); e.Code != v.Code || e.Message != v.Says || status != 400 {
			t.Errorf("%s:\n got %s %q\nwant %s %q", v.Name, e.Code, e.Message, v.Code, v.Says)
		}
	}
	if *rewrite {
		write(t, "client.json", f)
	}
	for _, typ := range []string{"auth", "subscribe", "unsubscribe", "seen", "read", "unread", "archive", "unarchive", "delete", "inbox", "preferences", "send", "visible", "ping", "allim:later"} {
		if !seen[typ] {
			t.Errorf("no vector shows a good %s", typ)
		}
	}
}

func read(t *testing.T, name string) (f vectorFile) {
	t.Helper()
	b, err := os.ReadFile(vectors + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t *testing.T, name string, f vectorFile) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("{\"frames\":[\n")
	for i, v := range f.Frames {
		line := bytes.Buffer{}
		e := json.NewEncoder(&line)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		b.Write(bytes.TrimSpace(line.Bytes()))
		if i < len(f.Frames)-1 {
			b.WriteString(",")
		}
		b.WriteString("\n")
	}
	b.WriteString("]}\n")
	if err := os.WriteFile(vectors+name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPreferencesAreAskedForOrSet(t *testing.T) {
	for in, want := range map[string]*[]string{
		`{"type":"preferences"}`:                        nil,
		`{"type":"preferences","mute":null}`:            nil,
		`{"type":"preferences","mute":[]}`:              {},
		`{"type":"preferences","mute":["a","mention"]}`: {"a", "mention"},
	} {
		c, err := wire.Decode([]byte(in))
		if diff := cmp.Diff(want, c.Mute); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", in, err, diff)
		}
	}
	many := func(n int) []byte {
		return []byte(`{"type":"preferences","mute":["a"` + strings.Repeat(`,"a"`, n-1) + `]}`)
	}
	if _, err := wire.Decode(many(100)); err != nil {
		t.Errorf("100 categories: %v", err)
	}
	if _, err := wire.Decode(many(101)); err == nil || err.Error() != "mute: expected at most 100 categories, not 101" {
		t.Errorf("101 categories: %v", err)
	}
}

func TestAMarkGoesUpToOnePlaceOrToOneInEachTopic(t *testing.T) {
	upto := func(topics int) []byte {
		at := map[string]string{}
		for i := range topics {
			at[fmt.Sprint("segment:", i)] = "x1qrst.12"
		}
		b, _ := json.Marshal(map[string]any{"type": "read", "upto": at})
		return b
	}
	if c, err := wire.Decode([]byte(`{"type":"read","upto":"x1qrst.12"}`)); err != nil || c.Upto == nil || *c.Upto != "x1qrst.12" || c.UptoAt != nil {
		t.Errorf("a position: %+v, %v", c, err)
	}
	if c, err := wire.Decode(upto(wire.MaxUpto)); err != nil || c.Upto != nil || len(c.UptoAt) != 22 || c.UptoAt["segment:7"] != "x1qrst.12" {
		t.Errorf("22 topics: %+v, %v", c, err)
	}
	for topics, want := range map[int]string{0: "upto: expected a position, or the `at` of an inbox frame", 23: "upto: expected at most 22 topics, not 23"} {
		if _, err := wire.Decode(upto(topics)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%d topics: got %v, want %s", topics, err, want)
		}
	}
}

func TestAChangeOfALaterBuildHasNoFrame(t *testing.T) {
	if b := message(notify.Message{Change: notify.ChangeUnknown, ID: "n1", Badge: badge}, true); b != nil {
		t.Errorf("got %s", b)
	}
}

func TestErrorsThatNobodyNamedAreUnavailable(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   string
		status int
	}{
		{errors.New("secret of the house"), "unavailable", 503}, {notify.ErrUnavailable, "unavailable", 503}, {notify.ErrUnauthorized, "unauthorized", 401},
		{notify.ErrForbidden, "forbidden", 403}, {notify.ErrNotConfigured, "bad_frame", 404}, {notify.ErrStalePosition, "stale_position", 409}, {notify.ErrLimit, "limit", 429}, {notify.ErrBusy, "busy", 429},
		{&notify.FieldError{Field: "data", Want: "less", Kind: notify.ErrTooLarge}, "too_large", 413}, {&notify.FieldError{Field: "topic", Want: "x"}, "bad_topic", 400},
		{&notify.FieldError{Field: "limit", Want: "x"}, "bad_frame", 400},
	} {
		f, status := wire.ErrorOf(c.err)
		if f.Code != c.code || status != c.status || f.Message == "" || f.Message == "secret of the house" {
			t.Errorf("%v: got %s %d %q, want %s %d", c.err, f.Code, status, f.Message, c.code, c.status)
		}
	}
	f, _ := wire.ErrorOf(&notify.RetryError{Err: notify.ErrBusy, After: 1100 * time.Millisecond})
	if f.Code != "busy" || f.RetryAfter != 2 {
		t.Errorf("a pause of 1.1 s: %+v", f)
	}
}

func TestWithLeavesTheSharedFrameAsItIs(t *testing.T) {
	shared := message(notify.Message{Change: notify.ChangeMessage, ID: "m1", Data: []byte(`{}`)}, true)
	was := string(shared)
	mine := wire.With(shared, true, "c")
	if string(shared) != was || string(mine) == was || !json.Valid(mine) {
		t.Fatalf("shared %s, mine %s", shared, mine)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"type":"subscribe","topics":{"a":null,"b":"0"},"ref":1}`))
	f.Add([]byte(`Hello Server!`))
	f.Add([]byte(`{"type":"read","ids":["n1"],"ref":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := wire.Decode(b)
		if err != nil {
			e, _ := wire.ErrorOf(err)
			e.Ref = c.Ref
			if out, err := wire.Encode(e); err != nil || !json.Valid(out) {
				t.Fatalf("answer %s: %v", out, err)
			}
			return
		}
		if c.Type == "" || len(c.Ref) > wire.MaxRef {
			t.Fatalf("command %+v", c)
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add("id", "event", "category", true)
	f.Fuzz(func(t *testing.T, id, event, category string, counts bool) {
		for _, change := range []notify.Change{notify.ChangeMessage, notify.ChangeNotification, notify.ChangeRead, notify.ChangeEphemeral, notify.ChangeUpdate, notify.ChangeRetract,
			notify.ChangeExpire, notify.ChangePreferences} {
			m := notify.Message{Change: change, ID: id, Replaces: event, ExpiresAt: noon, IDs: []string{id, event}, Event: event, Category: category, Data: []byte(`{"a":1}`), Position: at,
				Badge: &notify.Badge{By: []notify.CategoryCount{{Category: category, Unread: 1}}, Revision: at}}
			b := wire.Message("orders/7", &m, counts)
			if !json.Valid(b) || !json.Valid(wire.With(b, true, "c")) {
				t.Fatalf("not JSON: %s", b)
			}
		}
	})
}
