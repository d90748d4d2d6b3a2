package testkit

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A PushService is what a browser's maker runs: it takes pushes for Devices, and reads them with the keys that only the browsers would have.
type PushService struct {
	Host   string         // host:port, over TLS
	Roots  *x509.CertPool // of its certificate
	CAFile string         // the same in PEM

	server *httptest.Server

	mu      sync.Mutex // guards what is below
	devices map[string]*Device
	pushes  []Push
	answer  func(*Device) int
}

// A Device is a browser that subscribed at a PushService.
type Device struct {
	Endpoint     string
	P256dh, Auth []byte

	private *ecdh.PrivateKey
}

// A Push is one that came, and was read.
type Push struct {
	To     *Device
	Header http.Header
	Text   string
}

// NewPushService starts one that lives as long as the test. It answers 201 until Answer says something else.
func NewPushService(t testing.TB) *PushService {
	t.Helper()
	p := &PushService{devices: map[string]*Device{}, answer: func(*Device) int { return http.StatusCreated }, CAFile: filepath.Join(t.TempDir(), "push.pem")}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, err := p.take(r)
		if err != nil {
			t.Errorf("push service: %v", err)
		}
		w.WriteHeader(status)
	}))
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.server.StartTLS()
	t.Cleanup(p.server.Close)
	p.Host, p.Roots = strings.TrimPrefix(p.server.URL, "https://"), x509.NewCertPool()
	p.Roots.AddCert(p.server.Certificate())
	if err := os.WriteFile(p.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// Device subscribes a new browser.
func (p *PushService) Device(t testing.TB) *Device {
	t.Helper()
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d := &Device{P256dh: private.PublicKey().Bytes(), Auth: make([]byte, 16), private: private}
	_, _ = rand.Read(d.Auth)
	path := "/push/" + rand.Text()
	d.Endpoint = p.server.URL + path
	p.mu.Lock()
	defer p.mu.Unlock()
	p.devices[path] = d
	return d
}

// Answer has pushes answered with that status from now on. What is not 2xx did not come: Pushes has no more of it than that it was tried.
func (p *PushService) Answer(status func(*Device) int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = status
}

// Pushes are all that were tried so far, whatever was answered.
func (p *PushService) Pushes() []Push {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Push(nil), p.pushes...)
}

func (p *PushService) take(r *http.Request) (status int, err error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 4097))
	if err != nil {
		return http.StatusBadRequest, fmt.Errorf("read push: %w", err)
	}
	if len(body) > 4096 {
		return http.StatusRequestEntityTooLarge, errors.New("a push of more than 4,096 bytes")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.devices[r.URL.Path]
	if d == nil {
		return http.StatusNotFound, fmt.Errorf("a push to %s, which nobody subscribed", r.URL.Path)
	}
	if r.Method != http.MethodPost || r.Header.Get("TTL") == "" || r.Header.Get("Content-Encoding") != "aes128gcm" || !strings.HasPrefix(r.Header.Get("Authorization"), "vapid t=") {
		return http.StatusBadRequest, fmt.Errorf("a push without what it needs: %s %v", r.Method, r.Header)
	}
	text, err := Decrypt(body, d.private, d.Auth)
	if err != nil {
		return http.StatusBadRequest, err
	}
	p.pushes = append(p.pushes, Push{To: d, Header: r.Header.Clone(), Text: string(text)})
	return p.answer(d), nil
}

// Decrypt reads the body of a push as a browser does: RFC 8291, section 4, and one record of RFC 8188.
func Decrypt(body []byte, private *ecdh.PrivateKey, auth []byte) ([]byte, error) {
	const salt, size, point = 16, 4, 65
	if len(body) < salt+size+1+point || body[salt+size] != point {
		return nil, fmt.Errorf("a push of %d bytes without its header", len(body))
	}
	sender, err := ecdh.P256().NewPublicKey(body[salt+size+1 : salt+size+1+point])
	if err != nil {
		return nil, fmt.Errorf("key of push: %w", err)
	}
	shared, err := private.ECDH(sender)
	if err != nil {
		return nil, fmt.Errorf("key of push: %w", err)
	}
	info := fmt.Sprintf("WebPush: info\x00%s%s", private.PublicKey().Bytes(), sender.Bytes())
	secret, err1 := hkdf.Key(sha256.New, shared, auth, info, 32)
	key, err2 := hkdf.Key(sha256.New, secret, body[:salt], "Content-Encoding: aes128gcm\x00", 16)
	nonce, err3 := hkdf.Key(sha256.New, secret, body[:salt], "Content-Encoding: nonce\x00", 12)
	block, err4 := aes.NewCipher(key)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, fmt.Errorf("key of push: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("key of push: %w", err)
	}
	text, err := gcm.Open(nil, nonce, body[salt+size+1+point:], nil)
	if err != nil {
		return nil, fmt.Errorf("read push: %w", err)
	}
	return unpad(text)
}

// unpad takes the delimiter of the last record and the zeros behind it away.
func unpad(text []byte) ([]byte, error) {
	end := len(text) - 1
	for end >= 0 && text[end] == 0 {
		end--
	}
	if end < 0 || text[end] != 2 {
		return nil, errors.New("a push that is not one whole record")
	}
	return text[:end], nil
}
