package webpush

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"allim/pkg/notify"
)

func hosts(t *testing.T, list ...string) Hosts {
	t.Helper()
	h, err := NewHosts(list)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAnEndpointIsOfAPushServiceThatIsListed(t *testing.T) {
	known := hosts(t, DefaultHosts...)
	own := hosts(t, "Push.Example.com", "*.own.example:8443", "127.0.0.1:5000", "[::1]:5000", "10.0.0.7")
	for _, c := range []struct {
		of       Hosts
		endpoint string
		want     bool
	}{
		{known, "https://fcm.googleapis.com/fcm/send/abc", true},
		{known, "https://FCM.googleapis.com:443/wp/abc?x=y", true},
		{known, "https://updates.push.services.mozilla.com/wpush/v2/abc", true},
		{known, "https://db5p.notify.windows.com/w/?token=abc", true},
		{known, "https://web.push.apple.com/abc", true},
		{known, "https://a.b.push.apple.com/abc", true},
		{known, "http://fcm.googleapis.com/x", false},
		{known, "https://fcm.googleapis.com:8443/x", false},
		{known, "https://fcm.googleapis.com:/x", true},
		{known, "https://fcm.googleapis.com./x", false},
		{known, "https://evil.example/x", false},
		{known, "https://fcm.googleapis.com.evil.example/x", false},
		{known, "https://evilpush.apple.com/x", false},
		{known, "https://push.apple.com/x", false},
		{known, "https://.push.apple.com/x", false},
		{known, "https://a..push.apple.com/x", false},
		{known, "https://evil.example/.push.apple.com", false},
		{known, "https://evil.example#.push.apple.com", false},
		{known, "https://evil.example?.push.apple.com", false},
		{known, "https://evil.example\\.push.apple.com/x", false},
		{known, "https://evil.example%2f.push.apple.com/x", false},
		{known, "https://me@fcm.googleapis.com/x", false},
		{known, "https://fcm.googleapis.com@evil.example/x", false},
		{known, "https://fcm.googleapis.com/x#y", false},
		{known, "https://127.0.0.1/x", false},
		{known, "https://[::1]/x", false},
		{known, "https://2130706433/x", false},
		{known, "fcm.googleapis.com", false},
		{known, "", false},
		{known, "https://fcm.googleapis.com/" + strings.Repeat("x", 1500), true},
		{known, "https://fcm.googleapis.com/" + strings.Repeat("x", 1510), false},
		{own, "https://push.example.com/x", true},
		{own, "https://a.own.example:8443/x", true},
		{own, "https://a.own.example/x", false},
		{own, "https://127.0.0.1:5000/x", true},
		{own, "https://127.0.0.1/x", false},
		{own, "https://[::1]:5000/x", true},
		{own, "https://10.0.0.7/x", true},
		{own, "https://10.0.0.8/x", false},
		{Hosts{}, "https://fcm.googleapis.com/x", false},
	} {
		err := c.of.Check(c.endpoint)
		var fe *notify.FieldError
		if (err == nil) != c.want || err != nil && (!errors.As(err, &fe) || fe.Field != "endpoint") {
			t.Errorf("%s: got %v, want it taken: %v", c.endpoint, err, c.want)
		}
	}
}

func TestAListThatIsNoneOfHostsIsRefused(t *testing.T) {
	for _, text := range []string{"", "*", "*.", ".example.com", "example.com.", "a..example", "https://example.com", "example.com/x", "exämple.com", "localhost", "*.10.0.0.1", "example.com:0", "example.com:x",
		"10.0.0.1:x", "10.0.0.1:0", "fe80::1%eth0", strings.Repeat("a.", 130) + "example"} {
		_, err := NewHosts([]string{"fcm.googleapis.com", text})
		var fe *notify.FieldError
		if !errors.As(err, &fe) || fe.Field != "hosts[1]" {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// What a name leads to is looked at when it is dialled: whoever owns a listed name, or answers for it, does not get into our network.
func TestOnlyPublicAddressesAreDialled(t *testing.T) {
	h := hosts(t, "fcm.googleapis.com", "10.0.0.7", "[fd00::7]:5000")
	for _, ip := range []string{"142.250.1.1", "1.1.1.1", "2a00:1450:4001::1", "2001:4860::1", "10.0.0.7", "fd00::7", "::ffff:10.0.0.7", "::ffff:1.1.1.1"} {
		if err := h.control("tcp", netip.AddrPortFrom(netip.MustParseAddr(ip), 443).String(), nil); err != nil {
			t.Errorf("%s: %v", ip, err)
		}
	}
	for _, ip := range []string{"127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.0.0.8", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.8", "198.18.0.1", "224.0.0.1",
		"240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00::8", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.8", "::127.0.0.1", "64:ff9b::a00:1",
		"64:ff9b:1::1", "2002:a00:1::", "2001::1", "2001:db8::1"} {
		if err := h.control("tcp", netip.AddrPortFrom(netip.MustParseAddr(ip), 443).String(), nil); !errors.Is(err, errPrivate) {
			t.Errorf("%s is dialled: %v", ip, err)
		}
	}
	if err := h.control("unix", "/run/redis.sock", nil); err == nil {
		t.Error("a socket is dialled")
	}
}
