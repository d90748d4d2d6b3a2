package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// A hook is a backend's server that is told of notifications. It believes nothing that is not signed as Standard Webhooks says.
type hook struct {
	*httptest.Server

	mu  sync.Mutex // guards got
	got []told
}

// told is a webhook as it came.
type told struct {
	MessageID string    // webhook-id
	Came      time.Time // by the receiver's clock
	Query     string    // of the URL that was called
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		User     string          `json:"user"`
		ID       string          `json:"id"`
		Category string          `json:"category"`
		Topic    string          `json:"topic"`
		Pos      string          `json:"pos"`
		Time     time.Time       `json:"time"`
		Data     json.RawMessage `json:"data"`
	} `json:"data"`
}

// newHook starts one that answers each webhook as answer does, whose n is 1 for the first that came of all.
func newHook(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, n int, m told)) *hook {
	t.Helper()
	h := &hook{}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, err := readWebhook(r, hookSecret, time.Now())
		if err != nil {
			t.Errorf("webhook: %v", err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		h.mu.Lock()
		h.got = append(h.got, m)
		n := len(h.got)
		h.mu.Unlock()
		answer(w, r, n, m)
	}))
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.Start()
	t.Cleanup(h.Close)
	return h
}

// all are the webhooks that came so far.
func (h *hook) all() []told {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]told(nil), h.got...)
}

// of are those of a user.
func (h *hook) of(user string) (list []told) {
	for _, m := range h.all() {
		if m.Data.User == user {
			list = append(list, m)
		}
	}
	return list
}

// as is the webhooks setting of a tenant that is told here; query tells calls apart.
func (h *hook) as(tenant, query string) string {
	return fmt.Sprintf("{tenant: %s, url: '%s/hooks/allim?%s', secret: %s}", tenant, h.URL, query, hookSecret)
}

// readWebhook does what receivers are told to do: Standard Webhooks 1.0.0 (github.com/standard-webhooks/standard-webhooks), "Verifying webhook authenticity". The
// signature is of "<id>.<timestamp>.<body>", by the secret's bytes, one of several in the header is enough, and what is older than five minutes is a replay.
func readWebhook(r *http.Request, secret string, now time.Time) (m told, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return m, fmt.Errorf("read body: %w", err)
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		return m, fmt.Errorf("%s of %q, want POST of JSON", r.Method, r.Header.Get("Content-Type"))
	}
	id, at := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || id == "" || math.Abs(now.Sub(time.Unix(seconds, 0)).Minutes()) > 5 {
		return m, fmt.Errorf("webhook %q of the time %q", id, at)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return m, fmt.Errorf("read secret: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, id+"."+at+".")
	_, _ = mac.Write(body)
	want := mac.Sum(nil)
	for one := range strings.SplitSeq(r.Header.Get("webhook-signature"), " ") {
		version, text, _ := strings.Cut(one, ",")
		if got, err := base64.StdEncoding.DecodeString(text); version == "v1" && err == nil && hmac.Equal(got, want) {
			m = told{MessageID: id, Came: now, Query: r.URL.RawQuery}
			return m, json.Unmarshal(body, &m)
		}
	}
	return m, errors.New("no signature is of the secret")
}

// The check itself, by what all libraries of Standard Webhooks are tested with (libraries/go/webhook_symmetric_test.go there).
func TestAWebhookIsBelievedWhereItsSignatureIsGood(t *testing.T) {
	const body, good = `{"test": 2432232314}`, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	at := time.Unix(1614265330, 0)
	for _, c := range []struct {
		name, signature, secret, body string
		now                           time.Time
		good                          bool
	}{
		{"it is good", good, hookSecret, body, at, true},
		{"one of two is good", "v1,AAAA " + good, hookSecret, body, at.Add(4 * time.Minute), true},
		{"none", "", hookSecret, body, at, false},
		{"another version", strings.Replace(good, "v1", "v2", 1), hookSecret, body, at, false},
		{"another body", good, hookSecret, `{"test": 2432232315}`, at, false},
		{"another secret", good, "whsec_" + strings.Repeat("QUJD", 8), body, at, false},
		{"too old", good, hookSecret, body, at.Add(6 * time.Minute), false},
		{"of the future", good, hookSecret, body, at.Add(-6 * time.Minute), false},
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(c.body))
		r.Header.Set("content-type", "application/json")
		r.Header.Set("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
		r.Header.Set("webhook-timestamp", "1614265330")
		r.Header.Set("webhook-signature", c.signature)
		if _, err := readWebhook(r, c.secret, c.now); (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// sent notifies one user and is what became of it.
func sent(t *testing.T, b *pods.Backend, user string, r *pb.NotifyRequest) *pb.NotifyResult {
	t.Helper()
	r.To = &pb.Audience{Users: []string{user}}
	if r.Data == nil {
		r.Data = []byte(`{"title":"Tea"}`)
	}
	reply, err := b.Publisher.Notify(b.Call(), r)
	if err != nil {
		t.Fatalf("notify %s of %s: %v", user, r.Id, err)
	}
	return reply.Results[0]
}

// unlessSeen is an escalation a second after the notification came, the shortest there is.
func unlessSeen(via pb.NotifyRequest_Escalate_Via) *pb.NotifyRequest_Escalate {
	return &pb.NotifyRequest_Escalate{Unless: pb.NotifyRequest_Escalate_SEEN, AfterMs: 1000, Via: via}
}

// escalations is how many had a result, at any of these publishers.
func escalations(result string, all ...*pods.Pod) (n float64) {
	for _, p := range all {
		n += p.Metric("allim_escalations_total", "result", result)
	}
	return n
}

// Deadlines of a user's stream as they stand in Redis.
type deadlines struct {
	*testing.T
	redis *testkit.RedisServer
	user  string
}

// keys are those of the user's own and that of its partition; own is "" where there is none.
func (d deadlines) keys() (own, partition string) {
	d.Helper()
	all, err := d.redis.Client().Keys(d.Context(), "al:{*}:default:i:"+d.user+":[dm]").Result()
	if err != nil {
		d.Fatal(err)
	}
	for _, key := range all {
		partition = key[:strings.Index(key, ":default:")] + ":due"
		if strings.HasSuffix(key, ":d") {
			own = key
		}
	}
	return own, partition
}

// until is how long it is until the first of them, by Redis' clock.
func (d deadlines) until() time.Duration {
	d.Helper()
	rdb := d.redis.Client()
	own, _ := d.keys()
	first, err := rdb.ZRangeWithScores(d.Context(), own, 0, 0).Result()
	now, err2 := rdb.Time(d.Context()).Result()
	if err = errors.Join(err, err2); err != nil || len(first) == 0 {
		d.Fatalf("deadlines of %s: %v, %v", d.user, first, err)
	}
	return time.UnixMilli(int64(first[0].Score)).Sub(now)
}

// pass has the first of them be over, as time would.
func (d deadlines) pass() {
	d.Helper()
	rdb := d.redis.Client()
	own, partition := d.keys()
	first, err := rdb.ZRange(d.Context(), own, 0, 0).Result()
	if err != nil || len(first) == 0 {
		d.Fatalf("deadlines of %s: %v, %v", d.user, first, err)
	}
	for key, member := range map[string]string{own: first[0], partition: "default:i:" + d.user} {
		if n, err := rdb.Do(d.Context(), "ZADD", key, "XX", "CH", "1", member).Int(); err != nil || n != 1 {
			d.Fatalf("move deadline in %s: %d, %v", key, n, err)
		}
	}
}

// wantNone waits until nothing is due of the user any more: nobody can claim anything then.
func (d deadlines) wantNone() {
	d.Helper()
	rdb := d.redis.Client()
	testkit.Eventually(d, pods.Within, func() bool {
		own, partition := d.keys()
		n, err := rdb.ZCard(d.Context(), partition).Result()
		return own == "" && err == nil && n == 0
	}, "nothing is due of "+d.user)
}
