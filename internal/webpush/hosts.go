package webpush

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"allim/pkg/notify"
)

// DefaultHosts are the push services of the browsers: Chrome's and what is built of it, Firefox', Edge's on Windows, Safari's.
var DefaultHosts = []string{"fcm.googleapis.com", "*.push.services.mozilla.com", "*.notify.windows.com", "*.push.apple.com"}

const (
	maxEndpoint = 1536 // bytes of an endpoint: the longest, of Windows, have some 500
	httpsPort   = "443"
)

// Hosts, made by NewHosts, are the push services that are believed to be some. Endpoints come from users: without this list, and without the look at
// the address that a name has, anybody could have us post into our own network.
type Hosts struct {
	exact    map[string]bool     // host:port
	suffixes []string            // .suffix:port
	literal  map[netip.Addr]bool // addresses that are listed as such: they may be private ones
}

// NewHosts reads a list: a name (fcm.googleapis.com), all names below one (*.push.apple.com), or an IP address, which may then be a private one; each with
// :port where it is not 443. The error is a notify.FieldError of hosts[i].
func NewHosts(list []string) (Hosts, error) {
	h := Hosts{exact: map[string]bool{}, literal: map[netip.Addr]bool{}}
	for i, text := range list {
		host, port := strings.ToLower(text), httpsPort
		if at, p, err := net.SplitHostPort(host); err == nil {
			host, port = at, p
		}
		wild := strings.HasPrefix(host, "*.")
		name := strings.TrimPrefix(host, "*.")
		ip, err := netip.ParseAddr(strings.Trim(name, "[]"))
		switch {
		case err == nil && !wild && ip.Zone() == "" && isPort(port):
			h.literal[ip.Unmap()] = true
			h.exact[net.JoinHostPort(ip.String(), port)] = true
		case err == nil || !isName(name) || !isPort(port):
			return Hosts{}, &notify.FieldError{Field: fmt.Sprintf("hosts[%d]", i), Want: "a name such as fcm.googleapis.com or *.push.apple.com"}
		case wild:
			h.suffixes = append(h.suffixes, "."+name+":"+port)
		default:
			h.exact[name+":"+port] = true
		}
	}
	return h, nil
}

// isName tells whether text is a full name: labels with at least one dot between them.
func isName(text string) bool {
	for _, c := range []byte(text) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return len(text) <= 253 && strings.Contains(strings.Trim(text, "."), ".") && !strings.Contains(text, "..") && !strings.HasPrefix(text, ".") && !strings.HasSuffix(text, ".")
}

func isPort(text string) bool {
	p, err := netip.ParseAddrPort("0.0.0.0:" + text)
	return err == nil && p.Port() > 0
}

// Check says whether an endpoint is of a push service. It is asked when a subscription is stored and each time that something is sent. The error is a
// notify.FieldError of endpoint.
func (h Hosts) Check(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || len(endpoint) > maxEndpoint || u.Scheme != "https" || u.User != nil || u.Fragment != "" || !h.has(u) {
		return &notify.FieldError{Field: "endpoint", Want: "https on port 443 of a push service (setting push.hosts)"}
	}
	return nil
}

func (h Hosts) has(u *url.URL) bool {
	port := u.Port()
	if port == "" {
		port = httpsPort
	}
	at := net.JoinHostPort(strings.ToLower(u.Hostname()), port)
	if h.exact[at] {
		return true
	}
	for _, suffix := range h.suffixes {
		if label, ok := strings.CutSuffix(at, suffix); ok && isLabels(label) {
			return true
		}
	}
	return false
}

// isLabels tells whether text can stand in front of a name: a.b, but not "", "a..b" or "evil.example/".
func isLabels(text string) bool { return isName(text + ".x") }

// control refuses connections to addresses that no push service has: a name may lead anywhere, and elsewhere when it is asked again.
func (h Hosts) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("push to %s: %w", address, err)
	}
	ip := at.Addr().WithZone("").Unmap()
	if h.literal[ip] || isPublic(ip) {
		return nil
	}
	return errPrivate
}

// private are the blocks that isPublic asks for besides those that netip knows: of IANA's registries of special-purpose addresses, all that are not globally
// reachable, and those in which an IPv4 address is hidden.
var private = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("3fff::/20"),
	netip.MustParsePrefix("5f00::/16"), netip.MustParsePrefix("fec0::/10"),
}

func isPublic(ip netip.Addr) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, p := range private {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}
