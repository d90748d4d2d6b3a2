package programs

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"allim/internal/testkit"
	"allim/test/pods"
)

// Redis reads its append file as the user default: without rights it leaves out every transaction, which all our scripts are.
func TestTheDeployedRedisComesBackFromACrashWithAllThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	const n = 20
	s := newSiteOn(t, testkit.RedisDeployed(t), ending)
	gateway, publisher := s.start("gateway", "gateway"), s.start("publisher", "publisher")
	caller := newCaller(t, publisher.Addr("grpc"), nil)
	for i := range n {
		if err := caller.publish(apiKeyOf("ending"), topicOf(0), fmt.Sprint("m", i)); err != nil {
			t.Fatal(err)
		}
		if err := caller.notify(0, fmt.Sprint("n", i)); err != nil {
			t.Fatal(err)
		}
	}
	keys := s.keys()

	s.redis.Restart()
	if again := s.keys(); again != keys {
		t.Errorf("%d keys after a crash of Redis, %d before it", again, keys)
	}
	for _, p := range []*pods.Pod{gateway, publisher} {
		p.WaitReady()
	}
	client := pods.Connect(t, gateway, pods.Hello{Token: token(t, "user0", secretOf("ending")), Inbox: n + 1})
	if inbox := client.Next("inbox"); len(inbox.Items) != n || inbox.Badge.Unread != n {
		t.Errorf("the inbox has %d items and %d unread, want %d: %s", len(inbox.Items), inbox.Badge.Unread, n, inbox.Raw)
	}
	client.Send(map[string]any{"type": "subscribe", "topics": map[string]any{topicOf(0): "0"}, "ref": 1})
	for i := range n {
		if got, want := client.Next("message").ID, fmt.Sprint("m", i); got != want {
			t.Fatalf("history has %s, want %s", got, want)
		}
	}

	nobody := redis.NewClient(&redis.Options{Addr: s.redis.Addr, DisableIdentity: true, Protocol: 2, MaxRetries: -1})
	defer nobody.Close()
	if err := nobody.Ping(context.Background()).Err(); err == nil || err.Error() != "NOAUTH Authentication required." {
		t.Errorf("who gives no name is told %v", err)
	}
}

// A publisher that may only do what a gateway may would be ready, and fail each call.
func TestAPublisherUnderTheGatewaysUserOfRedisDoesNotStart(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	got := run(t, "publisher", folder(t, map[string]string{"allim.yaml": ending}), []string{"--config=allim.yaml", "--listen-grpc=127.0.0.1:0", "--listen-http=127.0.0.1:0", "--listen-ops=127.0.0.1:0"},
		[]string{"ALLIM_REDIS_URL=" + srv.As("gateway")})
	if want := "this user may not publish: expected a publisher's rights, as allim-publisher in deploy/redis/users.acl has them"; got.code != 1 || !strings.Contains(got.stderr, want) {
		t.Errorf("it ended with %d, want 1, and said\n%s\nwant %q in it", got.code, got.stderr, want)
	}
}

// keys is how many Redis has.
func (s *site) keys() int64 {
	s.t.Helper()
	n, err := s.redis.Client().DBSize(testkit.Context(s.t, pods.Within)).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
