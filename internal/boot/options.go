package boot

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"allim/internal/settings"
	"allim/internal/store"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

func wrong(field, want string, args ...any) error {
	return &notify.FieldError{Field: field, Want: fmt.Sprintf(want, args...)}
}

// Classes are the topic classes of the settings, and the patterns of those that are public. The error joins every mistake.
func Classes(list []settings.Class) (all []store.Class, public []notify.Pattern, err error) {
	var errs []error
	seen := map[string]int{}
	for i, c := range list {
		field := fmt.Sprintf("topics[%d].prefix", i)
		pattern, err := notify.ParsePattern(c.Prefix + "*")
		if err != nil {
			errs = append(errs, notify.InField(field, err))
		}
		if at, twice := seen[c.Prefix]; twice {
			errs = append(errs, wrong(field, "one that no other class has: topics[%d] has %q too", at, c.Prefix))
		}
		seen[c.Prefix] = i
		for _, own := range []string{"user:", "segment:"} {
			if strings.HasPrefix(c.Prefix, own) {
				errs = append(errs, wrong(field, "the prefix of event or page topics: %s is none", own))
			}
		}
		all = append(all, store.Class{Prefix: c.Prefix, History: store.History{Size: c.History, TTL: time.Duration(c.TTL)}})
		if c.Public {
			public = append(public, pattern)
		}
	}
	return all, public, errors.Join(errs...)
}

// Segments is the bounds of segments of the settings.
func Segments(s settings.Segments) store.Segments {
	return store.Segments{Size: s.Size, Retention: time.Duration(s.Retention), Start: s.Start, OnlyMine: !s.All}
}

// Inbox is the bounds of inboxes of the settings.
func Inbox(i settings.Inbox) store.Inbox {
	return store.Inbox{Size: i.Size, Retention: time.Duration(i.Retention)}
}

// Connection is how the settings say that Redis is reached.
func Connection(r settings.Redis) store.Connection {
	return store.Connection{URL: string(r.URL), Username: r.Username, UsernameFile: r.UsernameFile, Password: string(r.Password), PasswordFile: r.PasswordFile,
		CAFile: r.CAFile, CertFile: r.CertFile, KeyFile: r.KeyFile, PoolSize: r.PoolSize,
		Cluster: r.Cluster.Addresses,
		Sentinel: store.Sentinel{Master: r.Sentinel.Master, Addresses: r.Sentinel.Addresses, Username: r.Sentinel.Username, UsernameFile: r.Sentinel.UsernameFile,
			Password: string(r.Sentinel.Password), PasswordFile: r.Sentinel.PasswordFile}}
}

// Keys is the table of keys of the settings. A file with several public keys stands for several keys. The error joins every mistake.
func Keys(list []settings.Key) (*auth.Keys, error) {
	var errs []error
	var keys []auth.Key
	for i, k := range list {
		field := fmt.Sprintf("keys[%d]", i)
		one := auth.Key{ID: k.ID, Issuer: k.Issuer, Algorithm: k.Algorithm, Secret: []byte(k.Secret), Tenants: k.Tenants, Field: field}
		if k.PublicKey == "" {
			keys = append(keys, one)
			continue
		}
		public, err := auth.ParsePublicKeys([]byte(k.PublicKey))
		if err != nil {
			at := field + ".public_key"
			if k.PublicKeyFile != "" {
				at += "_file"
			}
			errs = append(errs, wrong(at, "PEM, a JWK or a JWK Set: %v", err))
			continue
		}
		all, err := one.With(public)
		keys, errs = append(keys, all...), append(errs, Within(field, err))
	}
	table, err := auth.NewKeys(keys)
	return table, errors.Join(append(errs, err)...)
}

// APIKeys are the API keys of the settings.
func APIKeys(list []settings.APIKey) []auth.APIKey {
	keys := make([]auth.APIKey, len(list))
	for i, k := range list {
		keys[i] = auth.APIKey{ID: k.ID, Key: string(k.Key), Tenant: k.Tenant, Allow: k.Allow}
	}
	return keys
}

// Public is which names the gateway answers to and which pages it lets in, its own address with them. In production that address must be known,
// and nothing may come over plain HTTP but from loopback. The error joins every mistake.
func Public(s *settings.Settings) (hosts, origins []string, err error) {
	var errs []error
	production := s.Mode != settings.Development
	hosts, origins = append(hosts, s.Hosts...), append(origins, s.Origins...)
	if production {
		for i, o := range origins {
			if strings.HasPrefix(o, "http://") && !loopback(o) {
				errs = append(errs, wrong(fmt.Sprintf("origins[%d]", i), "https in production (or mode: development)"))
			}
		}
	}
	if s.PublicURL == "" {
		if production {
			errs = append(errs, wrong("public_url", "the gateway's address as browsers see it, such as https://push.example.com (or mode: development on a machine of your own)"))
		}
		return hosts, origins, errors.Join(errs...)
	}
	u, err := url.Parse(s.PublicURL)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || !goodPort(u.Port()) || strings.ContainsAny(u.Hostname(), "*%") || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		errs = append(errs, wrong("public_url", "the gateway's address as browsers see it, such as https://push.example.com"))
	case production && u.Scheme == "http" && !loopback(s.PublicURL):
		errs = append(errs, wrong("public_url", "https in production (or mode: development)"))
	default:
		hosts, origins = append(hosts, u.Hostname()), append(origins, u.Scheme+"://"+withoutDefaultPort(u))
	}
	return hosts, origins, errors.Join(errs...)
}

// goodPort tells whether text is a port, or none: then it is the scheme's own.
func goodPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return text == "" || err == nil && n > 0
}

// Listening finds what is no address to listen on among those of the settings. The error joins every mistake.
func Listening(l settings.Listen) error {
	var errs []error
	for field, address := range map[string]string{"public": l.Public, "grpc": l.GRPC, "http": l.HTTP, "ops": l.Ops} {
		_, port, err := net.SplitHostPort(address)
		if err == nil {
			_, err = net.LookupPort("tcp", port) // a number up to 65535, or a service that this machine knows
		}
		if address != "" && err != nil {
			errs = append(errs, wrong("listen."+field, "host:port or :port, the port from 0 (any that is free) to 65535"))
		}
	}
	return errors.Join(errs...)
}

// withoutDefaultPort is a URL's host as browsers write it in an Origin (RFC 6454, section 6.2).
func withoutDefaultPort(u *url.URL) string {
	port := map[string]string{"https": ":443", "http": ":80"}[u.Scheme]
	return strings.TrimSuffix(u.Host, port)
}

func loopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// Both is whether a pair of files is given whole. The error says what is missing.
func Both(field string, p settings.Pair) (given bool, err error) {
	switch {
	case p.CertFile != "" && p.KeyFile == "":
		return false, wrong(field+".key_file", "the private key of %s.cert_file", field)
	case p.CertFile == "" && p.KeyFile != "":
		return false, wrong(field+".cert_file", "the certificate of %s.key_file", field)
	}
	return p.CertFile != "", nil
}
