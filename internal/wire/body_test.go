package wire_test

import (
	"strings"
	"testing"

	"allim/internal/wire"
)

func TestABodyIsAFrameWhoseTypeIsKnown(t *testing.T) {
	c, err := wire.DecodeAs("read", []byte(`{"ids":["n1"],"type":"delete","ref":7,"origin":"p9Xk3vQ0aLr7Tz1e","limit":3}`))
	if err != nil || c.Type != "read" || len(c.IDs) != 1 || string(c.Ref) != "7" || c.Origin == "" || c.Limit != 0 {
		t.Errorf("got %+v, %v", c, err)
	}
	if c, err := wire.DecodeAs("preferences", []byte(`{"mute":[]}`)); err != nil || c.Mute == nil || len(*c.Mute) != 0 {
		t.Errorf("got %+v, %v", c, err)
	}
	for body, want := range map[string]string{
		``:                         `body: expected a JSON object such as {"ids":["n1"]}, not ""`,
		`null`:                     `body: expected a JSON object such as {"ids":["n1"]}, not "null"`,
		"\xff":                     `body: expected UTF-8`,
		`{"ids":7}`:                `ids: expected a list of strings, as in {"ids":["n1"]}`,
		`{"ids":["a"],"all":true}`: `ids: expected exactly one of ids, upto and all, as in {"ids":["n1"]}`,
		`{"ref":[]}`:               `ref: expected a number or a string of at most 64 bytes`,
	} {
		if _, err := wire.DecodeAs("read", []byte(body)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", body, err, want)
		}
	}
	if _, err := wire.DecodeAs("seen", []byte(`{"ids":[1]}`)); err == nil || err.Error() != `ids: expected a list of strings, as in {"ids":["n1"]}` {
		t.Errorf("an example of another field: %v", err)
	}
}
