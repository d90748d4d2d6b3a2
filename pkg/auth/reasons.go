package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"allim/pkg/notify"
)

// signature finds who signed, or why nobody is known to have.
func (x *explaining) signature(signed string, sig []byte) {
	if x.Unchecked {
		x.fact("signed by", "not checked: there is no key")
		return
	}
	iss := x.claims.issuer
	method, keys := x.Keys.find(iss, x.kid)
	x.tried = keys
	switch {
	case method == nil:
		x.refuse("%s: the keys are for %s only", x.named("iss", iss), quoted(slices.Sorted(maps.Keys(x.Keys.issuers))))
	case len(keys) == 0:
		x.refuse("kid %q: no key of this issuer has this id, but %s", x.kid, x.ids(iss))
	case methods[x.alg] != nil && methods[x.alg] != method:
		x.refuse("alg %s: the keys of this issuer are for %s", x.alg, method.Alg())
	}
	made := func(k *Key) bool {
		return k.Algorithm == x.alg && methods[x.alg].Verify(signed, sig, k.verifyKey()) == nil
	}
	by := slices.IndexFunc(keys, made)
	if by >= 0 {
		x.claims.key = keys[by]
		x.fact("signed by", x.alg+" with "+called(keys[by:by+1]))
		return
	}
	var of string // a sentence's end: who else made it
	if other := slices.IndexFunc(x.Keys.all, made); other >= 0 {
		of = ", but with " + called(x.Keys.all[other:other+1])
	} else if x.alg == "HS256" {
		of = misread(x.Keys.all, made)
	}
	x.fact("signed by", "no key that this token may be signed with")
	switch fit := len(keys) > 0 && method.Alg() == x.alg; {
	case fit && of != "":
		x.refuse("signature: not made with %s%s", called(keys), of)
	case fit:
		x.refuse("signature: not made with %s: it was another key, or the token was changed", called(keys))
	case of != "":
		x.note("the signature is made%s", strings.TrimPrefix(of, ", but"))
	}
}

// misread looks for the secret that signed among those that a program takes for one of keys by reading its text in another way.
func misread(keys []*Key, made func(*Key) bool) string {
	ways := []struct {
		name string
		read func(string) ([]byte, error)
	}{
		{"decoded from hex", hex.DecodeString},
		{"decoded from base64", base64.StdEncoding.DecodeString},
		{"decoded from base64url", base64.RawURLEncoding.DecodeString},
		{"with a line break after it", func(s string) ([]byte, error) { return []byte(s + "\n"), nil }},
		{"without the line break or spaces around it", func(s string) ([]byte, error) { return []byte(strings.TrimSpace(s)), nil }},
	}
	for i, k := range keys {
		for _, way := range ways {
			secret, err := way.read(string(k.Secret))
			if err == nil && len(secret) > 0 && made(&Key{Algorithm: k.Algorithm, Secret: secret}) {
				return fmt.Sprintf(", but with the secret of %s %s: sign with its text as it stands", called(keys[i:i+1]), way.name)
			}
		}
	}
	return ""
}

// ids are those of an issuer's keys.
func (x *explaining) ids(iss string) string {
	group := x.Keys.issuers[iss]
	if group == nil {
		group = x.Keys.issuers[""]
	}
	var all []string
	for _, k := range group.keys {
		all = append(all, k.ID)
	}
	return quoted(all)
}

// times says when it is good, and every way in which it is not now. The bounds are those of checkTimes.
func (x *explaining) times() {
	c := x.claims
	x.moment("issued", c.issuedAt)
	x.moment("not before", c.notBefore)
	x.moment("expires", c.expires)
	_, has := x.set["exp"]
	if !has {
		x.refuse("no exp: expected its end, at most %s after iat", span(x.MaxLife))
	}
	if d := x.now.Sub(c.expires); !c.expires.IsZero() && d >= x.Leeway {
		x.refuse("expired %s ago, at %s", span(d), utc(c.expires))
	}
	if d := x.now.Sub(c.expires); !c.expires.IsZero() && d >= 0 && d < x.Leeway {
		x.note("it expired %s ago: servers take it for %s more, since clocks differ", span(d), span(x.Leeway-d))
	}
	if d := c.notBefore.Sub(x.now); !c.notBefore.IsZero() && d > x.Leeway {
		x.refuse("nbf: not valid for another %s, until %s", span(d), utc(c.notBefore))
	}
	if d := c.issuedAt.Sub(x.now); !c.issuedAt.IsZero() && d > x.Leeway {
		x.refuse("iat: issued %s in the future, at %s: a clock is wrong", span(d), utc(c.issuedAt))
	}
	if c.expires.IsZero() {
		return
	}
	if d := c.expires.Sub(c.issuedAt); !c.issuedAt.IsZero() && d > x.MaxLife {
		x.refuse("a life of %s from iat to exp: expected at most %s", span(d), span(x.MaxLife))
	} else if d := c.expires.Sub(x.now); c.issuedAt.IsZero() && d > x.MaxLife+x.Leeway {
		x.refuse("exp in %s, and no iat: expected at most %s from now", span(d), span(x.MaxLife))
	}
}

func (x *explaining) moment(name string, t time.Time) {
	switch d := t.Sub(x.now); {
	case t.IsZero():
	case d.Abs() < time.Second:
		x.fact(name, utc(t)+", now")
	case d > 0:
		x.fact(name, utc(t)+", in "+span(d))
	default:
		x.fact(name, utc(t)+", "+span(-d)+" ago")
	}
}

// named is a claim with its value, or that it is absent.
func (x *explaining) named(name, value string) string {
	if _, has := x.set[name]; !has {
		return "no " + name
	}
	return fmt.Sprintf("%s %q", name, value)
}

// called is how people find keys in the settings.
func called(keys []*Key) string {
	var all []string
	for _, k := range keys {
		name := k.Field
		if k.ID != "" {
			name += fmt.Sprintf(" (id %q)", k.ID)
		}
		all = append(all, name)
	}
	return strings.Join(all, " or ")
}

// quoted lists the first ten.
func quoted(all []string) string {
	var b strings.Builder
	for i, s := range all {
		if i == 10 {
			return b.String() + " and others"
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Quote(s))
	}
	return b.String()
}

// span is a length of time in its largest unit of which there are two, rounded down.
func span(d time.Duration) string {
	for _, unit := range []struct {
		name string
		is   time.Duration
	}{{"days", 24 * time.Hour}, {"hours", time.Hour}, {"minutes", time.Minute}} {
		if d >= 2*unit.is {
			return fmt.Sprintf("%d %s", d/unit.is, unit.name)
		}
	}
	if d < 2*time.Second {
		return "a second"
	}
	return fmt.Sprintf("%d seconds", d/time.Second)
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// shown is s as one line that people can tell from others.
func shown(s string) string {
	if s != "" && s == strings.TrimSpace(s) && s == printable(s) && !strings.ContainsAny(s, "\"\n") && !strings.Contains(s, "  ") {
		return s
	}
	return strconv.Quote(s)
}

// printable escapes what would not print: a token may come from anybody, and ends on a terminal.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\n' || unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}

const maxIndented = 16 << 10 // bytes: four KiB of brackets would become megabytes of spaces

// asJSON is a part of the token for people.
func asJSON(text []byte) string {
	var b bytes.Buffer
	if !json.Valid(text) || bytes.ContainsRune(text, unicode.ReplacementChar) {
		return strconv.Quote(string(text))
	}
	_ = json.Indent(&b, text, "", "  ") // of valid JSON
	if b.Len() > maxIndented {
		b.Reset()
		_ = json.Compact(&b, text)
	}
	return printable(b.String())
}

// names are an object's, in order.
func (o object) names() []string { return slices.Sorted(maps.Keys(o)) }

func texts[T notify.Topic | notify.Pattern](list []T) []string {
	all := make([]string, len(list))
	for i, s := range list {
		all[i] = string(s)
	}
	return all
}
