package testkit

import (
	"crypto/ecdh"
	"encoding/base64"
	"strings"
	"testing"
)

// RFC 8291, section 5 and appendix A.
func TestAPushIsReadAsABrowserReadsIt(t *testing.T) {
	raw := func(text string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	private, err := ecdh.P256().NewPrivateKey(raw("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"))
	if err != nil {
		t.Fatal(err)
	}
	auth := raw("BTBZMqHH6r4Tts7J_aSIgg")
	body := raw("DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_" +
		"yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN")
	if text, err := Decrypt(body, private, auth); err != nil || string(text) != "When I grow up, I want to be a watermelon" {
		t.Errorf("got %q, %v", text, err)
	}
	body[len(body)-1]++
	if text, err := Decrypt(body, private, auth); err == nil || !strings.Contains(err.Error(), "read push") {
		t.Errorf("of a changed one: got %q, %v", text, err)
	}
	if text, err := Decrypt(body[:80], private, auth); err == nil {
		t.Errorf("of a part: got %q", text)
	}
}

func TestOnlyAWholeRecordIsAPush(t *testing.T) {
	for text, want := range map[string]string{"a\x02": "a", "a\x02\x00\x00": "a", "\x02": "", "a\x02\x02": "a\x02"} {
		if got, err := unpad([]byte(text)); err != nil || string(got) != want {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "a", "a\x01", "\x00"} {
		if got, err := unpad([]byte(text)); err == nil {
			t.Errorf("%q: got %q", text, got)
		}
	}
}
