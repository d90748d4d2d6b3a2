package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"allim/pkg/notify"
)

// An Explanation is what a token says and whether it is good, in words for people. It shows no secret and no signature, and nothing in it prints a control character of the
// token's. It grants nothing: Verify and Authenticate do.
type Explanation struct {
	Header, Claims string   // the token's own JSON, indented; a quoted string where it is none, "" where there is nothing
	Facts          []Fact   // who signed, for whom, until when, what it may
	Refused        []string // every reason that it is not taken
	Notes          []string // what stands in it and does nothing
	Service        bool     // it names PublisherAudience
	Unchecked      bool     // there are no keys, so that nothing is known of its signature
}

// A Fact is one line of an Explanation.
type Fact struct{ Name, Value string }

// Explain says what the gateway makes of a token. Nothing is refused, and Unchecked false, exactly if Verify takes it. Without keys, all is told but who signed.
func (v *Verifier) Explain(token string) Explanation {
	x := v.explain(token)
	switch c := x.claims; {
	case c == nil:
	case x.Service:
		x.refuse("aud: a service token (%s): the publisher takes it, the gateway never does", PublisherAudience)
	case v.Audience != "" && !slices.Contains(c.audience, v.Audience):
		x.refuse("%s: the gateway asks for %q", x.named("aud", strings.Join(c.audience, " ")), v.Audience)
	}
	if v.public != nil && x.claims != nil && !x.Service {
		x.list("public", texts(v.public.patterns))
	}
	_, err := v.Verify(token)
	return x.end(err)
}

// Explain says what the publisher makes of a service token. Nothing is refused, and Unchecked false, exactly if Authenticate takes it. API keys are not looked at.
func (s *Services) Explain(token string) Explanation {
	x := s.explain(token)
	if x.claims != nil && !x.Service {
		x.refuse("%s: the publisher asks for %q", x.named("aud", strings.Join(x.claims.audience, " ")), PublisherAudience)
	}
	_, err := s.verifyService(token)
	return x.end(err)
}

// An explanation under way.
type explaining struct {
	Explanation
	*verifier
	now      time.Time
	set      object  // the claims by name; nil where they can not be read
	claims   *claims // of them, what can be read
	tried    []*Key  // that iss and kid choose
	alg, kid string
}

func (x *explaining) refuse(format string, args ...any) {
	x.Refused = append(x.Refused, fmt.Sprintf(format, args...))
}

func (x *explaining) note(format string, args ...any) {
	x.Notes = append(x.Notes, fmt.Sprintf(format, args...))
}

func (x *explaining) fact(name, value string) { x.Facts = append(x.Facts, Fact{name, value}) }

// list is a fact of what the token says, if it says something.
func (x *explaining) list(name string, all []string) {
	if len(all) == 0 {
		return
	}
	words := make([]string, len(all))
	for i, s := range all {
		words[i] = shown(s)
	}
	x.fact(name, strings.Join(words, "  "))
}

func (x *explaining) claim(name, value string) {
	if value != "" {
		x.list(name, []string{value})
	}
}

// end adds what the verdict itself says, should it be more than what was found.
func (x *explaining) end(err error) Explanation {
	if err != nil && len(x.Refused) == 0 && !x.Unchecked {
		x.refuse("%s", Why(err))
	}
	return x.Explanation
}

// explain is verify, but goes on where that one ends. Audiences are the caller's.
func (v *verifier) explain(token string) *explaining {
	x := &explaining{verifier: v, now: v.Now()}
	x.Unchecked = len(v.Keys.all) == 0
	if len(token) > MaxToken {
		x.refuse("%d bytes: expected at most %d", len(token), MaxToken)
		return x
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		x.refuse("not a signed JWT: expected three parts divided by dots, found %d", len(parts))
		return x
	}
	headerRead := x.header(parts[0])
	text, err := decode(parts[1])
	if err == nil {
		x.Claims = asJSON(text)
		x.set, err = parseObject(text, claimNames...)
	}
	if err != nil {
		x.refuse("claims: %v", err)
	}
	sig, err := decode(parts[2])
	if err != nil {
		x.refuse("signature: %v", err)
	}
	if x.set == nil {
		return x
	}
	var wrong []error
	x.claims, wrong = readClaims(x.set)
	x.Service = slices.Contains(x.claims.audience, PublisherAudience)
	if headerRead && err == nil {
		x.signature(parts[0]+"."+parts[1], sig)
	}
	x.mistakes(wrong)
	x.who()
	x.times()
	x.tenant()
	if x.Service {
		x.rights()
	} else {
		x.grants()
	}
	x.unread()
	return x
}

func (x *explaining) header(part string) (ok bool) {
	raw, err := decode(part)
	if err != nil {
		x.refuse("header: %v", err)
		return false
	}
	x.Header = asJSON(raw)
	h, err := parseObject(raw, append(headerNames, forbiddenHeaders...)...)
	if err != nil {
		x.refuse("header: %v", err)
		return false
	}
	var wrong []error
	x.alg, x.kid, wrong = checkHeader(h)
	for _, err := range wrong {
		x.refuse("header: %v", err)
	}
	if alg, has := h["alg"]; !has {
		x.refuse("header: no alg: expected HS256, RS256, ES256 or EdDSA")
	} else if _, is := text(alg); is && methods[x.alg] == nil {
		x.refuse("header: alg %q: expected HS256, RS256, ES256 or EdDSA", x.alg)
	}
	return true
}

// mistakes are those of single claims.
func (x *explaining) mistakes(wrong []error) {
	_, hasSub := x.set["sub"]
	if !hasSub {
		x.refuse("no sub: expected who it is for, 1 to %d bytes", notify.MaxUser)
	}
	for _, err := range flat(wrong...) {
		if hasSub || !strings.HasPrefix(err.Error(), "sub:") {
			x.refuse("%v", err)
		}
	}
}

func (x *explaining) who() {
	c := x.claims
	x.claim("issuer", c.issuer)
	x.list("audience", c.audience)
	if x.Service {
		x.claim("service", c.subject)
	} else {
		x.claim("user", c.subject)
	}
	x.claim("session", c.session)
	x.claim("token id", c.id)
}

// tenant asks the key that signed; where none did, those that could have.
func (x *explaining) tenant() {
	name, err := x.claims.grant.text("tenant")
	if err != nil {
		x.refuse("allim.%v", err)
		return
	}
	_, given := x.claims.grant["tenant"]
	if !given {
		name = notify.DefaultTenant
	}
	x.list("tenant", []string{name})
	keys := x.tried
	if x.claims.key != nil {
		keys = []*Key{x.claims.key}
	}
	said := fmt.Sprintf("allim.tenant %q", name)
	if !given {
		said = fmt.Sprintf("no allim.tenant, which means %q", name)
	}
	switch may := func(k *Key) bool { return slices.Contains(k.Tenants, name) }; {
	case len(keys) == 0 && notify.CheckTenant(name) != nil:
		x.refuse("%v", notify.InField("allim.tenant", notify.CheckTenant(name)))
	case len(keys) == 1 && !may(keys[0]):
		x.refuse("%s: %s may speak for %s only", said, called(keys), quoted(keys[0].Tenants))
	case len(keys) > 1 && !slices.ContainsFunc(keys, may):
		x.refuse("%s: none of %s may speak for it", said, called(keys))
	}
}

// grants are what a client may do.
func (x *explaining) grants() {
	id := &Identity{all: !x.OnlyMine}
	id.own, _ = notify.UserTopic(x.claims.subject)
	g, wrong := readLists(x.claims.grant)
	wrong = append(wrong, id.grant(g))
	for _, err := range flat(wrong...) {
		x.refuse("allim.%v", err)
	}
	x.list("hears", texts(id.Heard()))
	x.list("subscribe", texts(id.Subscribe))
	x.list("send", texts(id.Send))
}

// rights are what a service may do.
func (x *explaining) rights() {
	allow, err := x.claims.grant.texts("allow")
	if err != nil {
		x.refuse("allim.%v", err)
	}
	rights, err := parseRights("allim.allow", allow)
	for _, err := range flat(err) {
		x.refuse("%v", err)
	}
	var all []string
	for _, r := range rights {
		all = append(all, strings.TrimSuffix(r.Action+":"+string(r.Pattern), ":"))
	}
	x.list("allow", all)
	if len(all) == 0 {
		x.note("no allim.allow: the service may do nothing")
	}
}

// unread notes what the writer of the token may believe to do something.
func (x *explaining) unread() {
	other, whose := []string{"allow"}, "service tokens"
	if x.Service {
		other, whose = []string{"subscribe", "hear", "send", "segments"}, "users' tokens"
	}
	for _, name := range x.claims.grant.names() {
		if slices.Contains(other, name) {
			x.note("allim.%s is for %s: nothing looks at it here", name, whose)
		} else if !slices.Contains(grantNames, name) {
			x.note("allim.%s: no such name, nothing looks at it", shown(name))
		}
	}
	for _, name := range grantNames {
		if _, beside := x.set[name]; beside {
			x.note("%s stands beside allim, not in it: nothing looks at it", name)
		}
	}
	if x.set["allim"] == nil && !x.Service {
		x.note("no allim: the user hears the own stream and what is public, and sends nothing")
	}
}

// flat lists errors that were joined.
func flat(errs ...error) (all []error) {
	for _, err := range errs {
		var many interface{ Unwrap() []error }
		if err == nil {
			continue
		}
		if errors.As(err, &many) {
			all = append(all, flat(many.Unwrap()...)...)
		} else {
			all = append(all, err)
		}
	}
	return all
}
