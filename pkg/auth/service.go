package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"allim/pkg/notify"
)

// MinAPIKey is the least length of an API key in characters.
const MinAPIKey = 32

const hashPrefix = "sha256:"

// An APIKey is a backend's credential from the settings.
type APIKey struct {
	ID     string   // names it in logs and errors; 1–64 printable characters, no two alike
	Key    string   // at least MinAPIKey printable ASCII characters of randomness, or sha256:<64 hex digits> of them
	Tenant string   // whose streams it writes; "": notify.DefaultTenant
	Allow  []string // its rights, see ParseRight
}

// A Principal is a backend and what it may do. It is read-only.
type Principal struct {
	Name   string  // the API key's ID, or the sub of the service token
	Tenant string  // from the credential only
	Allow  []Right // none: nothing
}

// A Right is one entry of a credential's list `allow`.
type Right struct {
	Action  string         // publish, notify, refresh, inbox, events or admin
	Pattern notify.Pattern // of what; "" where the action has none
}

// ParseRight reads a right:
//
//	publish:<pattern>  of topics, as a call names them: publish:orders/*, publish:user:*, publish:*
//	notify:<pattern>   of audiences: notify:user:<id or prefix*> with the id as calls spell it, notify:segment:<name or prefix*>,
//	                   notify:* for everybody
//	refresh:<pattern>  of page topics: refresh:page:/orders/*
//	inbox, events, admin
func ParseRight(s string) (Right, error) {
	action, pattern, has := strings.Cut(s, ":")
	switch action {
	case "inbox", "events", "admin":
		if !has {
			return Right{Action: action}, nil
		}
	case "publish", "refresh":
		if p, err := notify.ParsePattern(pattern); err == nil {
			return Right{action, p}, nil
		}
	case "notify":
		if id, ok := strings.CutPrefix(pattern, "user:"); ok && notify.CheckUser(id) == nil {
			return Right{action, notify.Pattern(pattern)}, nil
		}
		name, ok := strings.CutPrefix(pattern, "segment:")
		if pattern == "*" || ok && (name == "*" || notify.CheckSegment(strings.TrimSuffix(name, "*")) == nil) {
			return Right{action, notify.Pattern(pattern)}, nil
		}
	}
	return Right{}, &notify.FieldError{Field: "allow", Want: "publish:<pattern>, notify:user:<pattern>, notify:segment:<pattern>, notify:*, refresh:<pattern>, inbox, events or admin"}
}

// MayPublish tells whether p may publish to a topic. user: names are matched like others.
func (p *Principal) MayPublish(t notify.Topic) bool { return p.may("publish", string(t)) }

// MayNotify tells whether p may notify a user, named as in the call.
func (p *Principal) MayNotify(user string) bool { return p.may("notify", "user:"+user) }

// MayNotifySegment tells whether p may notify all who are in a segment.
func (p *Principal) MayNotifySegment(name string) bool { return p.may("notify", "segment:"+name) }

// MayInbox tells whether p may read and mark the inboxes of its tenant.
func (p *Principal) MayInbox() bool { return p.may("inbox", "") }

// MayEvents tells whether p may watch what the users of its tenant do.
func (p *Principal) MayEvents() bool { return p.may("events", "") }

func (p *Principal) may(action, name string) bool {
	return slices.ContainsFunc(p.Allow, func(r Right) bool { return r.Action == action && r.Pattern.Match(name) })
}

// Services reads the credentials of backends: API keys and service tokens.
type Services struct {
	verifier
	keys []apiKey
}

type apiKey struct {
	hash      [sha256.Size]byte
	principal *Principal
}

// NewServices makes a Services. o.Audience is not looked at: service tokens have PublisherAudience. Its error joins one
// notify.FieldError for each mistake.
func NewServices(o Options, keys []APIKey) (*Services, error) {
	s := &Services{verifier: newVerifier(o)}
	var errs []error
	for i, k := range keys {
		a, err := k.parse(fmt.Sprintf("api_keys[%d]", i))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, other := range s.keys {
			if other.principal.Name == k.ID {
				errs = append(errs, mistake("api_keys[%d].id", i, "one that no other API key has"))
			}
			if other.hash == a.hash {
				errs = append(errs, mistake("api_keys[%d].key", i, "one that no other API key has"))
			}
		}
		s.keys = append(s.keys, a)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

func (k APIKey) parse(field string) (a apiKey, err error) {
	var errs []error
	wrong := func(name string, err error) { errs = append(errs, notify.InField(field+"."+name, err)) }
	if err := notify.CheckID(k.ID); err != nil {
		wrong("id", err)
	}
	if k.Tenant == "" {
		k.Tenant = notify.DefaultTenant
	}
	if err := notify.CheckTenant(k.Tenant); err != nil {
		wrong("tenant", err)
	}
	var ok bool
	if a.hash, ok = hashOf(k.Key); !ok {
		wrong("key", &notify.FieldError{Want: fmt.Sprintf("at least %d printable ASCII characters, or %s and 64 hex digits", MinAPIKey, hashPrefix)})
	}
	if ok && !strings.HasPrefix(k.Key, hashPrefix) {
		if want := weak([]byte(k.Key)); want != "" {
			wrong("key", &notify.FieldError{Want: want})
		}
	}
	rights, err := parseRights(field+".allow", k.Allow)
	a.principal = &Principal{Name: k.ID, Tenant: k.Tenant, Allow: rights}
	return a, errors.Join(append(errs, err)...)
}

func parseRights(field string, allow []string) ([]Right, error) {
	if len(allow) > MaxAllow {
		return nil, &notify.FieldError{Field: field, Want: fmt.Sprintf("at most %d rights", MaxAllow)}
	}
	return each(field, allow, ParseRight)
}

// hashOf is the hash that a configured key stands for.
func hashOf(key string) (hash [sha256.Size]byte, ok bool) {
	if digits, hashed := strings.CutPrefix(key, hashPrefix); hashed {
		n, err := hex.Decode(hash[:], []byte(digits[:min(len(digits), 2*sha256.Size)]))
		return hash, err == nil && n == sha256.Size && len(digits) == 2*sha256.Size
	}
	printable := !strings.ContainsFunc(key, func(r rune) bool { return r <= 0x20 || r >= 0x7f })
	return sha256.Sum256([]byte(key)), printable && len(key) >= MinAPIKey && len(key) <= MaxToken
}

// Authenticate reads a backend's credential. Every error is notify.ErrUnauthorized and tells a stranger no more; Why says more
// to a log.
func (s *Services) Authenticate(credential string) (*Principal, error) {
	if len(credential) > MaxToken {
		return nil, refuse("credential of %d bytes, expected at most %d", len(credential), MaxToken)
	}
	hash := sha256.Sum256([]byte(credential))
	var found *Principal
	for _, k := range s.keys { // all of them: the time says nothing of which one was near
		if subtle.ConstantTimeCompare(hash[:], k.hash[:]) == 1 {
			found = k.principal
		}
	}
	if found != nil {
		return found, nil
	}
	if strings.Count(credential, ".") != 2 {
		return nil, refuse("no such API key")
	}
	return s.verifyService(credential)
}

func (s *Services) verifyService(token string) (*Principal, error) {
	c, err := s.verify(token)
	if err != nil {
		return nil, refuse("%w", err)
	}
	if !slices.Contains(c.audience, PublisherAudience) {
		return nil, refuse("aud: not a service token")
	}
	tenant, err := c.tenant()
	if err != nil {
		return nil, refuse("allim.%w", err)
	}
	allow, err := c.grant.texts("allow")
	if err != nil {
		return nil, refuse("allim.%w", err)
	}
	rights, err := parseRights("allim.allow", allow)
	if err != nil {
		return nil, refuse("%w", err)
	}
	return &Principal{Name: c.subject, Tenant: tenant, Allow: rights}, nil
}
