package deliver_test

import (
	"encoding/base64"
	"errors"
	"testing"

	"allim/internal/deliver"
	"allim/internal/settings"
	"allim/pkg/notify"
)

func TestBrowsersSubscribeWhereThereIsAKey(t *testing.T) {
	const key = "BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA_0QTpQtUbVlUls0VJXg7A8u-Ts1XbjhazAkj7I99e8QcYP7DkM"
	configure := func(args ...string) (deliver.Config, error) {
		t.Helper()
		l, err := settings.Load(settings.Gateway, append(args, "--mode=development", "--anonymous={hear: [a]}"), nil)
		if err != nil {
			t.Fatal(err)
		}
		return deliver.Configure(l)
	}
	if c, err := configure(); err != nil || c.Push != nil {
		t.Errorf("without a key: %+v, %v", c.Push, err)
	}
	c, err := configure("--push-public-key=" + key + "=")
	if err != nil || c.Push == nil || c.Push.PublicKey != key {
		t.Fatalf("got %+v, %v, want the key as browsers take it", c.Push, err)
	}
	point, err := base64.RawURLEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Push.Check("https://web.push.apple.com/x", point, make([]byte, 16)); err != nil {
		t.Errorf("Safari's: %v", err)
	}
	for _, args := range [][]string{{"--push-public-key=" + key[1:]}, {"--push-hosts=x"}} {
		var fe *notify.FieldError
		if _, err := configure(args...); !errors.As(err, &fe) || fe.Field != "push.public_key" && fe.Field != "push.hosts[0]" {
			t.Errorf("%v: got %v", args, err)
		}
	}
}
