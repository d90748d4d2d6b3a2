package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"allim/pkg/notify"
)

// What is taken where Options name nothing.
const (
	DefaultLeeway  = 30 * time.Second
	DefaultMaxLife = 24 * time.Hour
)

const maxKid = 256 // bytes

// Options say which tokens are good.
type Options struct {
	Keys     *Keys
	Audience string           // that every client token must name; "": any but PublisherAudience. Services ask for theirs always
	Leeway   time.Duration    // of clocks; 0: DefaultLeeway
	MaxLife  time.Duration    // the longest from iat to exp, and from now to exp where there is no iat; 0: DefaultMaxLife
	Now      func() time.Time // nil: time.Now
	Public   []notify.Pattern // of event and page topics that every client may subscribe to, whatever its token names; Services do not look at it
	OnlyMine bool             // a client hears the segments that its token names, and no other; false: notify.All, too. Services do not look at it
}

func (o Options) withDefaults() Options {
	if o.Keys == nil {
		o.Keys = &Keys{}
	}
	if o.Leeway == 0 {
		o.Leeway = DefaultLeeway
	}
	if o.MaxLife == 0 {
		o.MaxLife = DefaultMaxLife
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// The names we read, at each level. Others are ignored.
var (
	headerNames = []string{"alg", "typ", "kid"}
	claimNames  = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "allim"}
	grantNames  = []string{"subscribe", "hear", "send", "segments", "tenant", "allow"}
)

// Header parameters that make a token bring its own key or its own rules (RFC 7515, section 4.1; RFC 7797).
var forbiddenHeaders = []string{"crit", "jku", "jwk", "x5u", "x5c", "b64"}

// claims are the registered claims of a verified token, and its claim allim. They are jwt.Claims.
type claims struct {
	issuer, subject, id, session string
	audience                     []string
	expires, notBefore, issuedAt time.Time // zero where absent
	grant                        object    // nil where absent
	key                          *Key      // that signed
}

// A verifier knows which tokens are good, for clients and backends alike.
type verifier struct {
	Options
	times *jwt.Validator
}

func newVerifier(o Options) verifier {
	o = o.withDefaults()
	return verifier{o, jwt.NewValidator(jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(o.Leeway), jwt.WithTimeFunc(o.Now))}
}

// verify reads a token and returns its claims, once signature and times are good. Audiences are the caller's to check.
func (v *verifier) verify(token string) (*claims, error) {
	if len(token) > MaxToken {
		return nil, fmt.Errorf("token of %d bytes, expected at most %d", len(token), MaxToken)
	}
	signed, signature, ok := cutLast(token)
	head, body, ok2 := strings.Cut(signed, ".")
	if !ok || !ok2 || strings.Contains(body, ".") {
		return nil, errors.New("not three segments")
	}
	alg, kid, err := readHeader(head)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	text, err := decode(body)
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	set, err := parseObject(text, claimNames...)
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	sig, err := decode(signature)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	iss, err := set.text("iss")
	if err != nil {
		return nil, err
	}
	key, err := v.signer(iss, alg, kid, signed, sig)
	if err != nil {
		return nil, err
	}
	c, wrong := readClaims(set)
	if wrong != nil {
		return nil, errors.Join(wrong...)
	}
	c.key = key
	return c, v.checkTimes(c)
}

// signer is the key that made the signature. Nothing of the token but iss, alg and kid was believed before.
func (v *verifier) signer(iss, alg, kid, signed string, sig []byte) (*Key, error) {
	method, keys := v.Keys.find(iss, kid)
	if len(keys) == 0 {
		return nil, errors.New("no key for this iss and kid")
	}
	if method.Alg() != alg {
		return nil, fmt.Errorf("alg is not the issuer's %s", method.Alg())
	}
	for _, k := range keys {
		if method.Verify(signed, sig, k.verifyKey()) == nil {
			return k, nil
		}
	}
	return nil, errors.New("signature of no known key")
}

func (v *verifier) checkTimes(c *claims) error {
	if err := v.times.Validate(c); err != nil {
		return err
	}
	from, most := c.issuedAt, v.MaxLife
	if from.IsZero() {
		from, most = v.Now(), v.MaxLife+v.Leeway
	}
	if c.expires.Sub(from) > most {
		return fmt.Errorf("a life of more than %v", v.MaxLife)
	}
	return nil
}

func readHeader(segment string) (alg, kid string, err error) {
	text, err := decode(segment)
	if err != nil {
		return "", "", err
	}
	h, err := parseObject(text, append(headerNames, forbiddenHeaders...)...)
	if err != nil {
		return "", "", err
	}
	alg, kid, wrong := checkHeader(h)
	if wrong != nil {
		return "", "", wrong[0]
	}
	return alg, kid, nil
}

// checkHeader returns what can be read, and every mistake.
func checkHeader(h object) (alg, kid string, wrong []error) {
	for _, name := range forbiddenHeaders {
		if _, ok := h[name]; ok {
			wrong = append(wrong, fmt.Errorf("%s is not accepted", name))
		}
	}
	typ, err := h.text("typ")
	_, given := h["typ"]
	if err != nil {
		wrong = append(wrong, err)
	} else if given && !strings.EqualFold(typ, "JWT") && !strings.EqualFold(typ, "at+jwt") { // RFC 7519, 5.1; RFC 9068, 2.1
		wrong = append(wrong, errors.New("typ is not JWT"))
	}
	if alg, err = h.text("alg"); err != nil {
		wrong = append(wrong, err)
	}
	if kid, err = h.text("kid"); err != nil {
		wrong = append(wrong, err)
	} else if len(kid) > maxKid {
		wrong = append(wrong, fmt.Errorf("kid of more than %d bytes", maxKid))
	}
	return alg, kid, wrong
}

// readClaims returns what can be read, and every mistake in the rest.
func readClaims(set object) (*claims, []error) {
	c := &claims{}
	var errs [7]error
	c.issuer, errs[0] = set.text("iss")
	c.subject, errs[1] = set.text("sub")
	c.id, errs[2] = set.text("jti")
	c.session, errs[3] = set.text("sid")
	c.expires, errs[4] = set.time("exp")
	c.notBefore, errs[5] = set.time("nbf")
	c.issuedAt, errs[6] = set.time("iat")
	var wrong []error
	for _, err := range errs {
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	if err := notify.CheckUser(c.subject); err != nil && errs[1] == nil {
		wrong = append(wrong, notify.InField("sub", err))
	}
	if aud, ok := set["aud"]; ok {
		var err error
		if one, single := text(aud); single {
			c.audience = []string{one}
		} else if c.audience, err = set.texts("aud"); err != nil {
			wrong = append(wrong, err)
		}
	}
	if raw, ok := set["allim"]; ok {
		var err error
		if c.grant, err = parseObject(raw, grantNames...); err != nil {
			wrong = append(wrong, fmt.Errorf("allim: %w", err))
		}
	}
	return c, wrong
}

// tenant is the one that the token speaks for, which its key must be allowed to.
func (c *claims) tenant() (string, error) {
	name, err := c.grant.text("tenant")
	if err != nil {
		return "", err
	}
	if _, ok := c.grant["tenant"]; !ok {
		name = notify.DefaultTenant
	}
	if !slices.Contains(c.key.Tenants, name) {
		return "", errors.New("tenant: not one of the key's")
	}
	return name, nil
}

// decode is strict base64url (RFC 7515, section 2): no padding, no line breaks, and one text only for each value.
func decode(segment string) ([]byte, error) {
	if strings.ContainsAny(segment, "\r\n") { // which the standard decoder skips
		return nil, errors.New("not base64url")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return nil, errors.New("not base64url")
	}
	return b, nil
}

func cutLast(token string) (signed, signature string, ok bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return "", "", false
	}
	return token[:i], token[i+1:], true
}

func date(t time.Time) *jwt.NumericDate {
	if t.IsZero() {
		return nil
	}
	return &jwt.NumericDate{Time: t}
}

// GetExpirationTime, with the methods below, makes claims jwt.Claims.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return date(c.expires), nil }

// GetIssuedAt is iat.
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error) { return date(c.issuedAt), nil }

// GetNotBefore is nbf.
func (c *claims) GetNotBefore() (*jwt.NumericDate, error) { return date(c.notBefore), nil }

// GetIssuer is iss.
func (c *claims) GetIssuer() (string, error) { return c.issuer, nil }

// GetSubject is sub.
func (c *claims) GetSubject() (string, error) { return c.subject, nil }

// GetAudience is aud.
func (c *claims) GetAudience() (jwt.ClaimStrings, error) { return c.audience, nil }
