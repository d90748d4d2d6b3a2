package webpush

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"allim/pkg/notify"
)

// A push service must take 4,096 bytes (RFC 8030, section 7.2). What goes in front of the text and behind it leaves this much room for the text
// (RFC 8291, section 4).
const (
	recordSize = 4096
	saltLen    = 16
	publicLen  = 65 // an uncompressed point of P-256
	authLen    = 16
	headerLen  = saltLen + 4 + 1 + publicLen
	tailLen    = 1 + 16 // the delimiter of the last record, and GCM's tag

	maxText = recordSize - headerLen - tailLen
)

// A Subscription is where a browser gets what is pushed, and what it reads it with. Made by NewSubscription.
type Subscription struct {
	endpoint string
	public   *ecdh.PublicKey // the browser's: p256dh
	auth     []byte
}

// NewSubscription checks what a browser's PushSubscription says, its keys decoded. Whether a push service is behind the endpoint is for Hosts to say. The
// error is a notify.FieldError.
func NewSubscription(endpoint string, p256dh, auth []byte) (Subscription, error) {
	if len(p256dh) != publicLen {
		return Subscription{}, &notify.FieldError{Field: "keys.p256dh", Want: "a point of P-256 in 65 bytes"}
	}
	public, err := ecdh.P256().NewPublicKey(p256dh)
	if err != nil {
		return Subscription{}, &notify.FieldError{Field: "keys.p256dh", Want: "a point on the curve P-256"}
	}
	if len(auth) != authLen {
		return Subscription{}, &notify.FieldError{Field: "keys.auth", Want: "16 bytes"}
	}
	return Subscription{endpoint: endpoint, public: public, auth: auth}, nil
}

// encrypt makes the body of a push that only the subscription's browser can read, with a new key each time.
func (s Subscription) encrypt(text []byte) ([]byte, error) {
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of push: %w", err)
	}
	salt := make([]byte, saltLen)
	_, _ = rand.Read(salt) // it never fails: crypto/rand
	return s.encryptWith(text, own, salt)
}

// encryptWith is RFC 8291, section 3.4, with one record of RFC 8188.
func (s Subscription) encryptWith(text []byte, own *ecdh.PrivateKey, salt []byte) ([]byte, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("encrypt push of %d bytes: more than %d: %w", len(text), maxText, notify.ErrTooLarge)
	}
	shared, err := own.ECDH(s.public)
	if err != nil {
		return nil, fmt.Errorf("encrypt push: %w", err)
	}
	public := own.PublicKey().Bytes()
	gcm, nonce, err := contentKey(shared, s.auth, salt, s.public.Bytes(), public)
	if err != nil {
		return nil, fmt.Errorf("encrypt push: %w", err)
	}
	out := make([]byte, 0, headerLen+len(text)+tailLen)
	out = append(out, salt...)
	out = binary.BigEndian.AppendUint32(out, recordSize)
	out = append(append(out, byte(len(public))), public...)
	last := append(text[:len(text):len(text)], 2) // the delimiter of the last record
	return gcm.Seal(out, nonce, last, nil), nil
}

// contentKey derives what encrypts: first from both parties' keys, then from the salt.
func contentKey(shared, auth, salt, theirs, ours []byte) (gcm cipher.AEAD, nonce []byte, err error) {
	ikm, err := hkdf.Key(sha256.New, shared, auth, "WebPush: info\x00"+string(theirs)+string(ours), sha256.Size)
	if err != nil {
		return nil, nil, err
	}
	prk, err := hkdf.Extract(sha256.New, ikm, salt)
	if err != nil {
		return nil, nil, err
	}
	key, err := hkdf.Expand(sha256.New, prk, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, nil, err
	}
	if nonce, err = hkdf.Expand(sha256.New, prk, "Content-Encoding: nonce\x00", 12); err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	gcm, err = cipher.NewGCM(block)
	return gcm, nonce, err
}
