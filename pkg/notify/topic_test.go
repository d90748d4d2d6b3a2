package notify_test

import (
	"errors"
	"strings"
	"testing"

	"allim/pkg/notify"
)

func TestKindFollowsFromTheNameAlone(t *testing.T) {
	for name, want := range map[string]notify.Kind{
		"orders/7": notify.KindEvent, "public/chat": notify.KindEvent, "users:1": notify.KindEvent, "user:42": notify.KindUser,
		"user:~w6k": notify.KindUser, "segment:org-7": notify.KindSegment, "page:/orders/7": notify.KindPage, "a~b=c+d,e@f:g-h_i.j": notify.KindEvent,
	} {
		topic, err := notify.ParseTopic(name)
		if err != nil || topic.Kind() != want {
			t.Errorf("%q: kind %c, %v; want %c", name, topic.Kind(), err, want)
		}
		if back := notify.TopicOf(topic.Kind(), topic.Name()); back != topic {
			t.Errorf("%q came back as %q", topic, back)
		}
	}
}

func TestBadTopicsAreRefusedWithWhatWasExpected(t *testing.T) {
	for name, want := range map[string]string{
		"":                                   "1 to 255 bytes",
		strings.Repeat("a", 256):             "1 to 255 bytes, not 256",
		"a b":                                `byte 2 is " "`,
		"a{b}":                               `byte 2 is "{"`,
		"a*":                                 `byte 2 is "*"`,
		"é":                                  "byte 1",
		"a\n":                                `byte 2 is "\n"`,
		"user:":                              "user:<id>",
		"user:a/b":                           "base64url",
		"user:~YQ":                           "base64url", // ~YQ is "a", which has a plain form
		"user:~w6k=":                         "base64url",
		"user:~":                             "base64url",
		"segment:":                           "segment:<name>",
		"segment:a/b":                        "segment:<name>",
		"segment:" + strings.Repeat("a", 65): "segment:<name>",
		"page:":                              "page:<path>",
		"me":                                 "alias",
	} {
		_, err := notify.ParseTopic(name)
		if !errors.Is(err, notify.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want …%s…", name, err, want)
		}
	}
}

func TestEveryUserHasOneTopic(t *testing.T) {
	for user, want := range map[string]notify.Topic{
		"42": "user:42", "ann@example.com": "user:ann@example.com", "~x": "user:~fng", "é": "user:~w6k", "a b": "user:~YSBi", "a/b": "user:~YS9i",
		strings.Repeat("\xc3\xa9", 90): "user:~" + notify.Topic(strings.Repeat("w6nDqcOp", 30)),
	} {
		topic, err := notify.UserTopic(user)
		if err != nil || topic != want {
			t.Errorf("%q: got %q, %v; want %q", user, topic, err, want)
		}
		if back, ok := topic.User(); !ok || back != user {
			t.Errorf("%q came back as %q", user, back)
		}
		if _, err := notify.ParseTopic(string(topic)); err != nil {
			t.Errorf("%q does not parse: %v", topic, err)
		}
	}
	for _, user := range []string{"", "\xff", strings.Repeat("a", 181)} {
		if _, err := notify.UserTopic(user); !errors.Is(err, notify.ErrInvalid) {
			t.Errorf("%q: %v", user, err)
		}
	}
}

func TestPatterns(t *testing.T) {
	for pattern, names := range map[string]map[string]bool{
		"orders/*": {"orders/7": true, "orders/": true, "orders": false, "order": false},
		"orders/7": {"orders/7": true, "orders/77": false},
		"*":        {"anything": true},
		"":         nil, "a*b": nil, "**": nil, "a b": nil,
	} {
		p, err := notify.ParsePattern(pattern)
		if (err == nil) != (names != nil) {
			t.Errorf("pattern %q: %v", pattern, err)
		}
		for name, want := range names {
			if p.Match(name) != want {
				t.Errorf("%q matches %q: %v", pattern, name, !want)
			}
		}
	}
}

func FuzzParseTopic(f *testing.F) {
	for _, s := range []string{"orders/7", "user:~w6k", "segment:a", "page:/x", "user:~", "me"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		topic, err := notify.ParseTopic(s)
		if err != nil {
			return
		}
		if string(topic) != s || len(s) > notify.MaxTopic || strings.ContainsAny(s, "{}*?[]\\ \n") {
			t.Fatalf("%q parsed as %q", s, topic)
		}
		if user, ok := topic.User(); ok {
			if again, err := notify.UserTopic(user); err != nil || again != topic {
				t.Fatalf("user %q of %q has the topic %q, %v", user, topic, again, err)
			}
		}
	})
}
