package auth

import (
	"errors"
	"testing"

	"allim/pkg/notify"
)

// FuzzVerify signs whatever it is given with the right key: what comes out is either refused without a word, or an identity
// within every bound.
func FuzzVerify(f *testing.F) {
	f.Add(head, good)
	f.Add(`{"alg":"HS256","kid":"k"}`, `{"sub":"a","exp":1800003600,"allim":{"subscribe":["a*"],"hear":["b"],"send":["c d"],"segments":["e"],"tenant":"default"}}`)
	f.Add(`{"alg":"none"}`, `{"sub":"a","SUB":"b","exp":1e9}`)
	f.Add(`{"alg":"HS256","crit":[]}`, `{"aud":["allim-publisher"]}`)
	v, s := verifierFor(f, options(f)), services(f)
	f.Fuzz(func(t *testing.T, header, claims string) {
		token := forge(header, claims, secret)
		id, err := v.Verify(token)
		if (id == nil) != (err != nil) || err != nil && (!errors.Is(err, notify.ErrUnauthorized) || err.Error() != "unauthorized") {
			t.Fatalf("got %+v, %v", id, err)
		}
		if id != nil {
			if notify.CheckUser(id.User) != nil || id.Tenant != "default" || !id.Expires.After(now.Add(-DefaultLeeway)) ||
				id.Expires.After(now.Add(DefaultMaxLife+DefaultLeeway)) || len(id.Heard()) > MaxHeard {
				t.Fatalf("an identity out of bounds: %+v", id)
			}
			if p, err := s.Authenticate(token); err == nil {
				t.Fatalf("one token for both: %+v", p)
			}
		}
		_, _ = v.Verify(header + "." + claims + ".x") // raw: must not panic
	})
}
