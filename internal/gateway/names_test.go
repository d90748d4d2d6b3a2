package gateway

import (
	"strings"
	"testing"
)

// An origin that is not written as browsers write it, or a host with more than its name, would let nobody in and say nothing.
func TestNamesAreThoseThatBrowsersSend(t *testing.T) {
	for _, c := range []struct{ host, origin, want string }{
		{host: "push.example.com"}, {host: "Push.Example.com"}, {host: "10.0.0.1"}, {host: "2001:db8::1"}, {host: "::1"},
		{host: "", want: "hosts[1]"}, {host: "push.example.com:443", want: "hosts[1]"}, {host: "[2001:db8::1]", want: "hosts[1]"}, {host: "[2001:db8::1]:443", want: "hosts[1]"},
		{host: "2001:db8::1::2", want: "hosts[1]"}, {host: "*.example.com", want: "hosts[1]"}, {host: "https://push.example.com", want: "hosts[1]"}, {host: "me@push", want: "hosts[1]"},
		{host: "push.example.com/", want: "hosts[1]"}, {host: "a b", want: "hosts[1]"},

		{origin: "https://app.example.com"}, {origin: "http://app.example.com"}, {origin: "https://app.example.com:8443"}, {origin: "https://[2001:db8::1]"}, {origin: "https://[2001:db8::1]:8443"},
		{origin: "https://app.example.com:80"}, {origin: "http://app.example.com:443"}, {origin: "https://[2001:db8::443]"},
		{origin: "https://app.example.com:443", want: "origins[1]"}, {origin: "http://app.example.com:80", want: "origins[1]"}, {origin: "https://[2001:db8::1]:443", want: "origins[1]"},
		{origin: "https://app.example.com/", want: "origins[1]"}, {origin: "https://app.example.com/path", want: "origins[1]"}, {origin: "https://app.example.com?x", want: "origins[1]"},
		{origin: "https://me@app.example.com", want: "origins[1]"}, {origin: "https://*.example.com", want: "origins[1]"}, {origin: "*", want: "origins[1]"}, {origin: "null", want: "origins[1]"},
		{origin: "app.example.com", want: "origins[1]"}, {origin: "ftp://app.example.com", want: "origins[1]"}, {origin: "https://", want: "origins[1]"}, {origin: "https://a b", want: "origins[1]"},
	} {
		hosts, origins := []string{"good.example.com"}, []string{"https://good.example.com"}
		if c.origin == "" {
			hosts = append(hosts, c.host)
		} else {
			origins = append(origins, c.origin)
		}
		err := CheckNames(hosts, origins)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Count(err.Error(), "\n") > 0) {
			t.Errorf("host %q, origin %q: got %v, want a mistake in %q", c.host, c.origin, err, c.want)
		}
	}
	if err := CheckNames([]string{"", "a/b"}, []string{"*", "null"}); err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("four mistakes at once: got %v", err)
	}
}
