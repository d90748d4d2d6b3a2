package main

import (
	"crypto/rand"
	"encoding/base64"
	"time"

	"allim/examples/inbox"
	"allim/pkg/auth"
)

// tokenLife is how long the demo's tokens are good: the longest that a verifier takes.
const tokenLife = auth.DefaultMaxLife

func newCast() (*cast, error) {
	secret := []byte(rand.Text() + rand.Text())
	keys, err := auth.NewKeys([]auth.Key{{ID: "demo", Algorithm: "HS256", Secret: secret}})
	if err != nil {
		return nil, err
	}
	c := &cast{shopKey: rand.Text() + rand.Text(), yourKey: rand.Text() + rand.Text(),
		hookSecret: "whsec_" + base64.StdEncoding.EncodeToString([]byte(rand.Text()+rand.Text()))}
	if c.verifier, err = auth.NewVerifier(auth.Options{Keys: keys}); err != nil {
		return nil, err
	}
	// The contract's example: the plainest page needs no token.
	c.anonymous, err = auth.Anonymous(auth.Grant{Subscribe: []string{"public/*"}, Hear: []string{"public/chat"}, Send: []string{"chat message"}})
	if err != nil {
		return nil, err
	}
	c.services, err = auth.NewServices(auth.Options{Keys: keys}, []auth.APIKey{
		{ID: "shop", Key: c.shopKey, Allow: []string{"publish:orders/*", "notify:*", "inbox"}},
		{ID: "you", Key: c.yourKey, Allow: []string{"publish:*", "notify:*", "inbox"}},
	})
	if err != nil {
		return nil, err
	}
	for _, u := range []inbox.User{{ID: "ann", Name: "Ann"}, {ID: "ben", Name: "Ben"}} {
		now := time.Now()
		u.Token, err = auth.Sign(auth.SigningKey{ID: "demo", Algorithm: "HS256", Secret: secret}, map[string]any{
			"sub": u.ID, "iat": now.Unix(), "exp": now.Add(tokenLife).Unix(),
			"allim": map[string]any{"subscribe": []string{"orders/*", "public/*"}, "hear": []string{"orders/all"}}})
		if err != nil {
			return nil, err
		}
		c.users = append(c.users, u)
	}
	return c, nil
}
