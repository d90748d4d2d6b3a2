package boot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"allim/internal/settings"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// fields are the settings that an error finds mistakes in, in its order.
func fields(t *testing.T, err error) (all []string) {
	t.Helper()
	for _, e := range flatten(err) {
		var fe *notify.FieldError
		if !errors.As(e, &fe) {
			t.Fatalf("%v is of no field", e)
		}
		all = append(all, fe.Field)
	}
	return all
}

func TestOnlyLoopbackMayBePlainInProduction(t *testing.T) {
	for address, plain := range map[string]bool{
		"http://localhost": true, "http://localhost:8080": true, "http://127.0.0.1:8080": true, "http://127.9.9.9": true, "http://[::1]:8080": true, "http://[::ffff:127.0.0.1]": true,
		"http://127.evil.example.com": false, "http://127.0.0.1.evil.example.com": false, "http://127.1": false, "http://localhost.evil.example.com": false, "http://push.example.com": false,
		"http://10.0.0.1": false, "http://[2001:db8::1]": false, "http://[::]": false, "http://0.0.0.0": false,
	} {
		// A mode that there is not is no way out of production.
		for _, mode := range []string{settings.Production, "", "prod", "production,development", "Development", settings.Development} {
			var want []string
			if !plain && mode != settings.Development {
				want = []string{"origins[1]", "public_url"}
			}
			_, _, err := Public(&settings.Settings{Mode: mode, PublicURL: address, Origins: []string{"https://app.example.com", address}})
			if got := fields(t, err); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("mode %q, %s: got %v (%v), want %v", mode, address, got, err, want)
			}
		}
	}
	for mode, want := range map[string]string{settings.Production: "[public_url]", "": "[public_url]", "prod": "[public_url]", settings.Development: "[]"} {
		if _, _, err := Public(&settings.Settings{Mode: mode}); fmt.Sprint(fields(t, err)) != want {
			t.Errorf("mode %q without an address: %v, want %s", mode, err, want)
		}
	}
}

func TestTheOwnAddressIsAHostAndAnOrigin(t *testing.T) {
	for address, want := range map[string]string{ // host and origin as browsers send them; "": it is none
		"https://push.example.com":          "push.example.com https://push.example.com",
		"https://push.example.com/":         "push.example.com https://push.example.com",
		"https://push.example.com:8443":     "push.example.com https://push.example.com:8443",
		"https://push.example.com:443":      "push.example.com https://push.example.com",
		"https://push.example.com:80":       "push.example.com https://push.example.com:80",
		"http://localhost:80":               "localhost http://localhost",
		"http://localhost:443":              "localhost http://localhost:443",
		"https://[2001:db8::1]":             "2001:db8::1 https://[2001:db8::1]",
		"https://[2001:db8::1]:443":         "2001:db8::1 https://[2001:db8::1]",
		"https://[2001:db8::443]:8443":      "2001:db8::443 https://[2001:db8::443]:8443",
		"https://[2001:db8::443]":           "2001:db8::443 https://[2001:db8::443]",
		"https://10.0.0.1:8443":             "10.0.0.1 https://10.0.0.1:8443",
		"https://push.example.com:65535":    "push.example.com https://push.example.com:65535",
		"https://push.example.com:65536":    "",
		"https://push.example.com:0":        "",
		"https://*.example.com":             "",
		"https://*":                         "",
		"https://[fe80::1%25eth0]":          "",
		"https://push%2aexample.com":        "",
		"https://2001:db8::1":               "",
		"https://":                          "",
		"https://:443":                      "",
		"https://me:hunter2@push.example":   "",
		"https://push.example.com/app":      "",
		"https://push.example.com?hunter2":  "",
		"https://push.example.com#hunter2":  "",
		"wss://push.example.com":            "",
		"push.example.com":                  "",
		"push.example.com:443":              "",
		"hunter2":                           "",
		"https://push.example.com/ hunter2": "",
		"https://hunter2 push.example.com":  "",
	} {
		hosts, origins, err := Public(&settings.Settings{Mode: settings.Production, PublicURL: address, Hosts: []string{"h"}, Origins: []string{"https://o"}})
		got := strings.TrimPrefix(strings.Join(hosts, " "), "h") + strings.TrimPrefix(strings.Join(origins, " "), "https://o")
		if strings.TrimSpace(got) != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %s, %v; want %s", address, got, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || fmt.Sprint(fields(t, err)) != "[public_url]") {
			t.Errorf("%s: says %v", address, err)
		}
	}
}

func TestAddressesToListenOnHaveAPort(t *testing.T) {
	good := settings.Listen{Public: ":8080", GRPC: "127.0.0.1:0", HTTP: "[::1]:65535", Ops: "localhost:http"}
	if err := Listening(good); err != nil {
		t.Error(err)
	}
	bad := settings.Listen{Public: ":65536", GRPC: "127.0.0.1", HTTP: "::1:80", Ops: "localhost:-1"}
	if got := fields(t, Listening(bad)); fmt.Sprint(slices.Sorted(slices.Values(got))) != "[listen.grpc listen.http listen.ops listen.public]" {
		t.Errorf("got %v", got)
	}
}

// A budget below the largest request would refuse that one forever.
func TestTheLargestRequestFitsIntoTheBytesOfCalls(t *testing.T) {
	for _, c := range []struct {
		request, calls string
		want           string
	}{{"8MiB", "64MiB", "[]"}, {"8MiB", "8MiB", "[]"}, {"8MiB", "8191KiB", "[limits.calls_bytes]"}, {"64MiB", "4MiB", "[limits.calls_bytes]"}} {
		l, err := settings.Load(settings.Publisher, []string{"--limits-request=" + c.request, "--limits-calls-bytes=" + c.calls, "--keys=[" + first + "]"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewPublisher(l); fmt.Sprint(fields(t, err)) != c.want {
			t.Errorf("%s of %s: got %v, want %s", c.request, c.calls, err, c.want)
		}
	}
}

// Where a public key belongs, a private one or a secret may stand by mistake.
func TestAMistakeInAKeyDoesNotQuoteIt(t *testing.T) {
	for _, text := range []string{"hunter2", "hunter2-----BEGIN hunter2", "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\nhunter22\n-----END PRIVATE KEY-----\n",
		`{"kty":"oct","k":"hunter2"}`, `{"kty":"OKP","crv":"Ed25519","d":"hunter2","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, `{"kty":"EC","crv":"P-256","x":"hunter2","y":"hunter2"}`, `{hunter2`, `{"keys":["hunter2"]}`} {
		for _, k := range []settings.Key{{Algorithm: "ES256", PublicKey: text}, {Algorithm: "ES256", PublicKey: text, PublicKeyFile: "k.pem"}, {Algorithm: "HS256", Secret: settings.Secret(text[:7])}, {Algorithm: text}} {
			if _, err := Keys([]settings.Key{k}); err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: got %v", text, err)
			}
		}
	}
	for _, k := range []settings.APIKey{{ID: "a", Key: "hunter2"}, {ID: "a", Key: "sha256:hunter2"}, {ID: "a", Key: "sha256:" + settings.Secret(strings.Repeat("hunter2", 10))}} {
		if _, err := auth.NewServices(auth.Options{}, APIKeys([]settings.APIKey{k})); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: got %v", string(k.Key), err)
		}
	}
}
