package notify_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"allim/pkg/notify"
)

func TestChecks(t *testing.T) {
	id, event, category, origin, collapse := notify.CheckID, notify.CheckEvent, notify.CheckCategory, notify.CheckOrigin, notify.CheckCollapse
	data := func(s string) error { return notify.CheckData([]byte(s), 40) }
	for _, c := range []struct {
		check func(string) error
		in    string
		want  error
	}{
		{id, "ord-7-v41", nil}, {id, strings.Repeat("!", 64), nil}, {id, "", notify.ErrInvalid}, {id, strings.Repeat("a", 65), notify.ErrInvalid},
		{id, "a,b", notify.ErrInvalid}, {id, "a b", notify.ErrInvalid}, {id, "é", notify.ErrInvalid}, {id, "a\n", notify.ErrInvalid}, {id, "\x7f", notify.ErrInvalid},
		{event, "", nil}, {event, "order.updated", nil}, {event, strings.Repeat("x", 128), nil}, {event, "chat message", nil}, {event, "알림", nil},
		{event, strings.Repeat("x", 129), notify.ErrInvalid}, {event, "a\x00", notify.ErrInvalid}, {event, "a\u0085", notify.ErrInvalid}, {event, "\xff", notify.ErrInvalid},
		{event, "welcome", notify.ErrInvalid}, {event, "connect", notify.ErrInvalid}, {event, "newListener", notify.ErrInvalid}, {event, "allim:x", notify.ErrInvalid},
		{category, "", nil}, {category, "a-b_c.9", nil}, {category, strings.Repeat("c", 33), notify.ErrInvalid}, {category, "A", notify.ErrInvalid},
		{collapse, "", nil}, {collapse, "thread:7", nil}, {collapse, strings.Repeat("k", 64), nil}, {collapse, strings.Repeat("k", 65), notify.ErrInvalid}, {collapse, "a,b", notify.ErrInvalid}, {collapse, "a\nb", notify.ErrInvalid},
		{origin, "", nil}, {origin, "0123456789abcdef", nil}, {origin, "0123456789abcde", notify.ErrInvalid}, {origin, strings.Repeat("a", 33), notify.ErrInvalid}, {origin, "0123456789abcde=", notify.ErrInvalid},
		{data, `{"a":[1,"]",null]}`, nil}, {data, ` 1 `, nil}, {data, "", notify.ErrInvalid}, {data, "{", notify.ErrInvalid}, {data, "1 2", notify.ErrInvalid},
		{data, "\"\xff\"", notify.ErrInvalid}, {data, `"` + strings.Repeat("x", 38) + `"`, nil}, {data, `"` + strings.Repeat("x", 39) + `"`, notify.ErrTooLarge},
		{data, strings.Repeat("[", 17) + strings.Repeat("]", 17), nil},
		{func(s string) error { return notify.CheckData([]byte(s), 1000) }, strings.Repeat("[", 32) + strings.Repeat("]", 32), nil},
		{func(s string) error { return notify.CheckData([]byte(s), 1000) }, strings.Repeat("[", 33) + strings.Repeat("]", 33), notify.ErrInvalid},
	} {
		if err := c.check(c.in); !errors.Is(err, c.want) {
			t.Errorf("%.40q: got %v, want %v", c.in, err, c.want)
		}
	}
}

func TestMutedCategoriesAreChecked(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string
	}{
		{nil, ""},
		{[]string{"order", "a-b_c.9"}, ""},
		{slices.Repeat([]string{"a"}, 100), ""},
		{slices.Repeat([]string{"a"}, 101), "mute: expected at most 100 categories, not 101"},
		{[]string{"a", ""}, "mute[1]: expected 1 to 32 of a-z 0-9 _ . -"},
		{[]string{"A"}, "mute[0]: expected 1 to 32 of a-z 0-9 _ . -"},
	} {
		if err := notify.CheckMute(c.in); (err == nil) != (c.want == "") || err != nil && (err.Error() != c.want || !errors.Is(err, notify.ErrInvalid)) {
			t.Errorf("%.40q: got %v, want %q", c.in, err, c.want)
		}
	}
}

func TestMarkNames(t *testing.T) {
	for name, c := range notify.Marks {
		if notify.MarkName(c) != name {
			t.Errorf("%c is %q, not %q", c, notify.MarkName(c), name)
		}
	}
	for _, c := range []notify.Change{notify.ChangeMessage, notify.ChangeUpdate, notify.ChangeRetract, notify.ChangeExpire, notify.ChangePreferences, notify.ChangeUnknown} {
		if name := notify.MarkName(c); name != "" {
			t.Errorf("%c is no mark, not %q", c, name)
		}
	}
}

func TestANotificationIsPlainWithoutTermsAndEnd(t *testing.T) {
	for _, c := range []struct {
		m    notify.Message
		want bool
	}{
		{notify.Message{Category: "order"}, true},
		{notify.Message{Terms: &notify.Terms{}}, false},
		{notify.Message{ExpiresAt: time.UnixMilli(1)}, false},
	} {
		if got := c.m.Plain(); got != c.want {
			t.Errorf("%+v: got %v", c.m, got)
		}
	}
}
