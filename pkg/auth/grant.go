package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"allim/pkg/notify"
)

// A Grant is what a client is given, in the words of the claim `allim` and of the setting `anonymous`.
type Grant struct {
	Subscribe []string // patterns of topics
	Hear      []string // topics
	Send      []string // event names, or prefixes of them that end in *
	Segments  []string // of anonymous clients: none

	Public []notify.Pattern // of anonymous clients: what Options.Public is for the others; not read from tokens
}

// Anonymous is the identity of clients without a token, from the setting `anonymous`: in the default tenant, without a user, an
// inbox or segments. Its error joins one notify.FieldError for each mistake.
func Anonymous(g Grant) (*Identity, error) {
	id := &Identity{Tenant: notify.DefaultTenant, Anonymous: true}
	if len(g.Segments) > 0 {
		return nil, &notify.FieldError{Field: "segments", Want: "none: the anonymous belong to no segment"}
	}
	public, err := newPublic(g.Public)
	id.public = public
	if err := errors.Join(id.grant(g), err); err != nil {
		return nil, err
	}
	return id, nil
}

// public are the topics that everybody may ask for. All identities of a server share one, so that they cost a session nothing.
type public struct{ patterns []notify.Pattern }

// newPublic checks the patterns: of event and page topics, which MayHear holds them to. nil stands for none. Its error joins one notify.FieldError for each mistake.
func newPublic(patterns []notify.Pattern) (*public, error) {
	var errs []error
	for i, p := range patterns {
		field := fmt.Sprintf("public[%d]", i)
		if _, err := notify.ParsePattern(string(p)); err != nil {
			errs = append(errs, notify.InField(field, err))
		} else if k := notify.Topic(p).Kind(); k != notify.KindEvent && k != notify.KindPage {
			errs = append(errs, &notify.FieldError{Field: field, Want: "event or page topics: those of users and segments are never public"})
		}
	}
	if err := errors.Join(errs...); err != nil || len(patterns) == 0 {
		return nil, err
	}
	return &public{slices.Clone(patterns)}, nil
}

// grant checks g and gives it to id, each name once. Its error joins one notify.FieldError for each mistake.
func (id *Identity) grant(g Grant) error {
	var errs [5]error
	id.Subscribe, errs[0] = each("subscribe", g.Subscribe, notify.ParsePattern)
	id.Hear, errs[1] = each("hear", g.Hear, parseHear)
	id.Send, errs[2] = each("send", g.Send, parseSend)
	id.Segments, errs[3] = each("segments", g.Segments, func(s string) (string, error) { return s, notify.CheckSegment(s) })
	if len(id.Segments) > MaxSegments {
		errs[4] = &notify.FieldError{Field: "segments", Want: fmt.Sprintf("at most %d", MaxSegments), Kind: notify.ErrLimit}
	} else if n := len(id.Heard()); n > MaxHeard {
		errs[4] = &notify.FieldError{Field: "hear", Want: fmt.Sprintf("at most %d topics with the own stream and the segments, all among them, not %d", MaxHeard, n), Kind: notify.ErrLimit}
	}
	return errors.Join(errs[:]...)
}

// each parses a list and drops repeats.
func each[T comparable](field string, list []string, parse func(string) (T, error)) (all []T, err error) {
	var errs []error
	for i, s := range list {
		v, err := parse(s)
		if err != nil {
			errs = append(errs, notify.InField(fmt.Sprintf("%s[%d]", field, i), err))
		} else if !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	return all, errors.Join(errs...)
}

// parseHear takes event and page topics: a user's stream is opened by sub alone, a segment by segments alone.
func parseHear(s string) (notify.Topic, error) {
	t, err := notify.ParseTopic(s)
	if err == nil && t.Kind() != notify.KindEvent && t.Kind() != notify.KindPage {
		err = &notify.FieldError{Field: "hear", Want: "an event or page topic: sub and segments open the others"}
	}
	return t, err
}

// parseSend takes an event name, or a prefix that ends in *: the rules of patterns, with the characters of event names.
func parseSend(s string) (notify.Pattern, error) {
	control := func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }
	if s == "" || len(s) > notify.MaxEvent || !utf8.ValidString(s) || strings.ContainsFunc(s, control) {
		return "", &notify.FieldError{Field: "send", Want: fmt.Sprintf("1 to %d bytes of UTF-8 without control characters", notify.MaxEvent)}
	}
	return notify.Pattern(s), nil
}

// Own is the stream of the user itself; ok is false for the anonymous.
func (id *Identity) Own() (own notify.Topic, ok bool) { return id.own, id.own != "" }

// Heard lists the topics that are heard without asking: the own stream, the segments' and hear; at most MaxHeard. Every user is of the segment notify.All, named or not,
// unless Options.OnlyMine.
func (id *Identity) Heard() []notify.Topic {
	heard := make([]notify.Topic, 0, 2+len(id.Segments)+len(id.Hear))
	if own, ok := id.Own(); ok {
		heard = append(heard, own)
	}
	if id.all && !slices.Contains(id.Segments, notify.All) {
		heard = append(heard, notify.TopicOf(notify.KindSegment, notify.All))
	}
	for _, s := range id.Segments {
		heard = append(heard, notify.TopicOf(notify.KindSegment, s))
	}
	return append(heard, id.Hear...)
}

// MayHear tells whether id may hear a topic. A user's stream is for that user alone and a segment's for who the token puts into
// it: no pattern opens them, and nothing makes them public.
func (id *Identity) MayHear(t notify.Topic) bool {
	switch t.Kind() {
	case notify.KindUser:
		own, ok := id.Own()
		return ok && t == own
	case notify.KindSegment:
		return id.all && t.Name() == notify.All || slices.Contains(id.Segments, t.Name())
	case notify.KindEvent, notify.KindPage:
		return slices.Contains(id.Hear, t) || matches(id.Subscribe, string(t)) || id.public != nil && matches(id.public.patterns, string(t))
	}
	return false
}

// MaySend tells whether id may send an event of that name to the backends.
func (id *Identity) MaySend(event string) bool { return event != "" && matches(id.Send, event) }

func matches(patterns []notify.Pattern, name string) bool {
	return slices.ContainsFunc(patterns, func(p notify.Pattern) bool { return p.Match(name) })
}
