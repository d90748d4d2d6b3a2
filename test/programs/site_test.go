package programs

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"allim/internal/testkit"
	"allim/pkg/auth"
	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

// secretOf and apiKeyOf are what a key of that name is in these tests.
func secretOf(name string) string { return "the secret of the clients' key called " + name }
func apiKeyOf(name string) string { return "the-credential-of-the-backend-" + name }

// token is a user's, for every topic, signed with a secret.
func token(t *testing.T, user, secret string) string {
	t.Helper()
	signed, err := auth.Sign(auth.SigningKey{Algorithm: "HS256", Secret: []byte(secret)}, map[string]any{
		"sub": user, "exp": time.Now().Add(time.Hour).Unix(), "allim": map[string]any{"subscribe": []string{"*"}}})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// A site is a folder with a settings file for both programs, and a Redis. What stands in the folder "now" is swapped at once, as Kubernetes swaps what it
// mounts: a link is moved to the next folder.
type site struct {
	t     *testing.T
	dir   string
	redis *testkit.RedisServer
	made  int // folders so far
}

func newSite(t *testing.T, yaml string) *site {
	t.Helper()
	return newSiteOn(t, testkit.Redis(t), yaml)
}

func newSiteOn(t *testing.T, redis *testkit.RedisServer, yaml string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), redis: redis}
	put(t, s.dir, "allim.yaml", yaml)
	return s
}

// swap makes these files those of "now", besides those that stay as they are.
func (s *site) swap(files map[string]string) {
	s.t.Helper()
	s.made++
	now, next := filepath.Join(s.dir, "now"), filepath.Join(s.dir, fmt.Sprint("then-", s.made))
	if err := os.Mkdir(next, 0o700); err != nil {
		s.t.Fatal(err)
	}
	old, _ := os.ReadDir(now) // the first time there is none
	for _, f := range old {
		if err := os.Link(filepath.Join(now, f.Name()), filepath.Join(next, f.Name())); err != nil {
			s.t.Fatal(err)
		}
	}
	for name, text := range files {
		_ = os.Remove(filepath.Join(next, name)) // it may be new
		put(s.t, next, name, text)
	}
	link := filepath.Join(s.dir, "link")
	if err := os.Symlink(next, link); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(link, now); err != nil {
		s.t.Fatal(err)
	}
}

// start starts a program with the site's file and Redis, on ports of its own unless args say otherwise. A gateway lets go of its clients at once,
// likewise.
func (s *site) start(program, name string, args ...string) *pods.Pod {
	s.t.Helper()
	ports := []string{"public", "ops"}
	if program == "publisher" {
		ports = []string{"grpc", "http", "ops"}
	}
	all := []string{"--config=" + filepath.Join(s.dir, "allim.yaml")}
	for _, port := range ports {
		if flag := "--listen-" + port + "="; !strings.Contains(strings.Join(args, " "), flag) {
			all = append(all, flag+"127.0.0.1:0")
		}
	}
	if program == "gateway" {
		all = append(all, "--drain-pause=0s", "--drain-window=0s") // the last of a flag counts
	}
	p := pods.Launch(s.t, name, pods.Program(s.t, program), append(all, args...), []string{"ALLIM_REDIS_URL=" + s.redis.As(program)})
	p.WaitReady()
	return p
}

// A caller is a backend with one gRPC connection, whose dials are counted.
type caller struct {
	pb.PublisherClient
	dials atomic.Int64
}

// newCaller connects to a publisher; secure is nil for plain.
func newCaller(t *testing.T, addr string, secure *tls.Config) *caller {
	t.Helper()
	c := &caller{}
	over := insecure.NewCredentials()
	if secure != nil {
		over = credentials.NewTLS(secure)
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(over), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		c.dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c.PublisherClient = pb.NewPublisherClient(conn)
	return c
}

// publish publishes one message as the backend of that credential.
func (c *caller) publish(credential, topic, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), pods.Within)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+credential)
	_, err := c.Publish(ctx, &pb.PublishRequest{Id: id, Topics: []string{topic}, Event: "e", Data: []byte("1")})
	return err
}

// certificate is the name of the certificate that a port shows to who connects now.
func certificate(addr string, c *tls.Config) (name string, err error) {
	c = c.Clone()
	c.NextProtos = []string{"h2", "http/1.1"}
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: pods.Within}, Config: c}).Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}
