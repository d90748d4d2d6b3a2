package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

const apiText = "an-api-key-of-at-least-32-characters"

func services(t testing.TB, keys ...APIKey) *Services {
	t.Helper()
	s, err := NewServices(options(t), keys)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAPIKeysAreKnownByTheirHash(t *testing.T) {
	other := strings.Repeat("k", 32)
	sum := sha256.Sum256([]byte(other))
	s := services(t, APIKey{ID: "shop", Key: apiText, Allow: []string{"publish:*"}},
		APIKey{ID: "crm", Key: "sha256:" + hex.EncodeToString(sum[:]), Tenant: "acme", Allow: []string{"inbox"}})
	if p, err := s.Authenticate(apiText); err != nil || p.Name != "shop" || p.Tenant != "default" || !p.MayPublish("a") || p.MayInbox() {
		t.Errorf("got %+v, %v", p, err)
	}
	if p, err := s.Authenticate(other); err != nil || p.Name != "crm" || p.Tenant != "acme" || p.MayPublish("a") || !p.MayInbox() {
		t.Errorf("got %+v, %v", p, err)
	}
	for wrong, why := range map[string]string{"": "API key", apiText[1:]: "API key", apiText + "x": "API key",
		"sha256:" + hex.EncodeToString(sum[:]): "API key", hex.EncodeToString(sum[:]): "API key", strings.Repeat("x", MaxToken+1): "bytes"} {
		_, err := s.Authenticate(wrong)
		wantRefused(t, err, why)
	}
}

func TestEveryMistakeInTheAPIKeysIsNamed(t *testing.T) {
	_, err := NewServices(options(t), []APIKey{
		{ID: "", Key: apiText},
		{ID: "b", Key: apiText[:31]},
		{ID: "c", Key: strings.Repeat("k ", 16)},
		{ID: "d", Key: "sha256:00", Tenant: "No"},
		{ID: "e", Key: "sha256:" + strings.Repeat("g", 64)},
		{ID: "f", Key: "sha256:" + strings.Repeat("0", 66), Allow: []string{"inbox", "publish", "everything"}},
		{ID: "g", Key: "g" + apiText},
		{ID: "g", Key: "g" + apiText},
		{ID: "h", Key: strings.Repeat("h", 32)},
		{ID: "i", Key: "i" + apiText, Allow: slices.Repeat([]string{"inbox"}, 101)},
	})
	want := []string{"api_keys[0].id", "api_keys[1].key", "api_keys[2].key", "api_keys[3].tenant", "api_keys[3].key", "api_keys[4].key",
		"api_keys[5].key", "api_keys[5].allow[1]", "api_keys[5].allow[2]", "api_keys[7].id", "api_keys[7].key", "api_keys[8].key", "api_keys[9].allow"}
	if got := fields(err); !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestServiceTokensAndClientTokensAreKeptApart(t *testing.T) {
	s := services(t)
	token := func(aud, allim string) string {
		return forge(head, `{"sub":"shop","exp":1800003600,`+aud+`"allim":`+allim+`}`, secret)
	}
	p, err := s.Authenticate(token(`"aud":"allim-publisher",`, `{"allow":["publish:orders/*","notify:user:*"],"subscribe":1}`))
	if err != nil {
		t.Fatalf("%v: %s", err, Why(err))
	}
	if p.Name != "shop" || p.Tenant != "default" || !p.MayPublish("orders/1") || p.MayPublish("x") || !p.MayNotify("42") || p.MayNotifySegment("42") || p.MayInbox() {
		t.Errorf("got %+v", p)
	}
	if p, err = s.Authenticate(token(`"aud":["x","allim-publisher"],`, `{}`)); err != nil || p.MayPublish("a") || p.MayNotify("a") || p.MayNotifySegment("a") || p.MayInbox() {
		t.Errorf("without allow: got %+v, %v", p, err)
	}
	for name, c := range map[string]struct{ token, why string }{
		"no aud":         {token("", `{"allow":["inbox"]}`), "aud"},
		"a client's aud": {token(`"aud":"web",`, `{"allow":["inbox"]}`), "aud"},
		"another tenant": {token(`"aud":"allim-publisher",`, `{"tenant":"acme"}`), "tenant"},
		"allow no list":  {token(`"aud":"allim-publisher",`, `{"allow":"inbox"}`), "allow"},
		"allow unknown":  {token(`"aud":"allim-publisher",`, `{"allow":["all"]}`), "allow[0]"},
		"expired":        {forge(head, `{"sub":"shop","exp":1,"aud":"allim-publisher"}`, secret), "expired"},
		"wrong key":      {forge(head, `{"sub":"shop","exp":1800003600,"aud":"allim-publisher"}`, nil), "signature"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Authenticate(c.token)
			wantRefused(t, err, c.why)
		})
	}
}

func TestRights(t *testing.T) {
	for _, c := range []struct {
		right, action, name string
		want                bool
	}{
		{"publish:orders/*", "publish", "orders/1", true},
		{"publish:*", "publish", "user:42", true},
		{"publish:user:*", "publish", "user:42", true},
		{"publish:user:*", "publish", "orders", false},
		{"publish:orders/1", "publish", "orders/12", false},
		{"publish:*", "notify", "user:42", false},
		{"publish:*", "inbox", "", false},
		{"notify:*", "notify", "user:42", true},
		{"notify:user:42", "notify", "user:42", true},
		{"notify:user:42", "notify", "user:421", false},
		{"notify:user:ann *", "notify", "user:ann lee", true},
		{"notify:segment:*", "notify", "user:42", false},
		{"notify:segment:org-*", "notify", "segment:org-7", true},
		{"refresh:page:/orders/*", "refresh", "page:/orders/7", true},
		{"inbox", "inbox", "", true},
		{"events", "inbox", "", false},
		{"admin", "inbox", "", false},
	} {
		r, err := ParseRight(c.right)
		if err != nil {
			t.Errorf("%s: %v", c.right, err)
			continue
		}
		if got := (&Principal{Allow: []Right{r}}).may(c.action, c.name); got != c.want {
			t.Errorf("%s allows %s %q: got %v, want %v", c.right, c.action, c.name, got, c.want)
		}
	}
	for _, bad := range []string{"", "*", "publish", "publish:", "publish:a*b", "inbox:*", "Inbox", "notify", "notify:", "notify:42", "notify:u*", "notify:user:",
		"notify:segment:", "notify:segment:a/b", "refresh", "everything", "admin:"} {
		if r, err := ParseRight(bad); err == nil {
			t.Errorf("%q: got %+v", bad, r)
		}
	}
}
