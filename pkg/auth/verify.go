package auth

import (
	"errors"
	"slices"
	"time"

	"allim/pkg/notify"
)

// A Verifier reads the tokens of clients.
type Verifier struct {
	verifier
	public *public
}

// NewVerifier makes a Verifier. An audience of PublisherAudience is an error: those tokens are not for clients. So is a public topic that can not be one: its error
// joins one notify.FieldError for each mistake.
func NewVerifier(o Options) (*Verifier, error) {
	if o.Audience == PublisherAudience {
		return nil, &notify.FieldError{Field: "audience", Want: "one of your own: " + PublisherAudience + " is for service tokens"}
	}
	public, err := newPublic(o.Public)
	if err != nil {
		return nil, err
	}
	return &Verifier{newVerifier(o), public}, nil
}

// An Identity is who a client is and what it may do. It is read-only: connections share it.
type Identity struct {
	User      string           // the token's sub, as given; "" when Anonymous
	Tenant    string           // from the credential only
	Subscribe []notify.Pattern // of topics it may ask for
	Hear      []notify.Topic   // heard without asking; event and page topics
	Send      []notify.Pattern // of event names it may send
	Segments  []string         // whose streams are heard without asking
	Expires   time.Time        // the end of this identity; zero when Anonymous
	IssuedAt  time.Time        // the token's iat; zero where it has none
	ID        string           // the token's jti, may be ""
	SessionID string           // the token's sid, may be ""
	Anonymous bool             // no credential was shown

	own    notify.Topic // "" when Anonymous
	all    bool         // it is of notify.All without naming it
	public *public      // shared by all; nil: none
}

// Verify reads a client's token. Every error is notify.ErrUnauthorized and tells a stranger no more; Why says more to a log.
func (v *Verifier) Verify(token string) (*Identity, error) {
	c, err := v.verify(token)
	if err != nil {
		return nil, refuse("%w", err)
	}
	if slices.Contains(c.audience, PublisherAudience) {
		return nil, refuse("aud: a service token")
	}
	if v.Audience != "" && !slices.Contains(c.audience, v.Audience) {
		return nil, refuse("aud: not ours")
	}
	tenant, err := c.tenant()
	if err != nil {
		return nil, refuse("allim.%w", err)
	}
	own, err := notify.UserTopic(c.subject)
	if err != nil {
		return nil, refuse("%w", err)
	}
	id := &Identity{User: c.subject, Tenant: tenant, Expires: c.expires, IssuedAt: c.issuedAt, ID: c.id, SessionID: c.session, own: own, all: !v.OnlyMine, public: v.public}
	if err := id.readGrant(c.grant); err != nil {
		return nil, refuse("allim.%w", err)
	}
	return id, nil
}

func (id *Identity) readGrant(o object) error {
	g, wrong := readLists(o)
	if wrong != nil {
		return errors.Join(wrong...)
	}
	return id.grant(g)
}

// readLists returns the lists of a claim allim that can be read, and every mistake in the others.
func readLists(o object) (g Grant, wrong []error) {
	for _, l := range [...]struct {
		name string
		into *[]string
	}{{"subscribe", &g.Subscribe}, {"hear", &g.Hear}, {"send", &g.Send}, {"segments", &g.Segments}} {
		var err error
		if *l.into, err = o.texts(l.name); err != nil {
			wrong = append(wrong, err)
		}
	}
	return g, wrong
}
