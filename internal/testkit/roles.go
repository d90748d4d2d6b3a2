package testkit

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// users are the users of deploy/redis/users.acl by what tests call them: "gateway" and "publisher" are the roles that product code has in
// production, "replica" and "sentinel" are those of servers, "admin" may do all and is for what a test does to Redis itself.
var users = map[string]string{"admin": "admin", "gateway": "allim-gateway", "publisher": "allim-publisher", "replica": "allim-replica", "sentinel": "allim-sentinel"}

// password is that of all users of all servers of this process: a client of one server may be pointed at another.
var password = sync.OnceValue(rand.Text)

// User is the name and the password of a role on every server: "gateway", "publisher", "replica", "sentinel" or "admin".
func User(t testing.TB, role string) (name, pass string) {
	t.Helper()
	name, ok := users[role]
	if !ok {
		t.Fatalf("no role %q", role)
	}
	return name, password()
}

// As is the URL of this server for a role, in the form that redis.ParseURL and our settings take.
func (s *RedisServer) As(role string) string {
	s.tb.Helper()
	u := url.URL{Scheme: "redis", User: url.UserPassword(User(s.tb, role)), Host: s.Addr, Path: "/0"}
	if s.tls != nil {
		u.Scheme = "rediss"
	}
	return u.String()
}

// Client returns a new client of this server that may do all; it is closed when the test ends.
func (s *RedisServer) Client() *redis.Client { s.tb.Helper(); return s.ClientAs("admin") }

// ClientAs is Client for a role. A deadline of a call's context is obeyed, and the maintenance handshake, which Redis 7.0 does not know, is off.
func (s *RedisServer) ClientAs(role string) *redis.Client {
	s.tb.Helper()
	name, pass := User(s.tb, role)
	c := redis.NewClient(&redis.Options{
		Addr: s.Addr, Username: name, Password: pass, TLSConfig: s.tls,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	s.tb.Cleanup(func() { _ = c.Close() }) // the test may have closed it already
	return c
}

// userFile makes the ACL file of a server from the one that is deployed, as deploy/redis/users.sh does, and returns its path.
func userFile(t testing.TB, dir string) string { t.Helper(); return filled(t, "users.acl", dir) }

// filled is a template of deploy/redis with the passwords of this process, in dir.
func filled(t testing.TB, name, dir string) string {
	t.Helper()
	template, err := os.ReadFile(filepath.Join(deployed(t), name))
	if err != nil {
		t.Fatal(err)
	}
	text := string(template)
	for role := range users {
		text = strings.ReplaceAll(text, "#{"+role+"}", ">"+password())
	}
	var lines []string
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "#"), strings.TrimSpace(line) == "":
		case strings.HasPrefix(line, " "):
			lines[len(lines)-1] += " " + strings.TrimSpace(line)
		default:
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if atLeast(7, 2) { // what README.md says to add there
		for i, l := range lines {
			if strings.HasPrefix(l, "user allim-publisher ") {
				lines[i] = strings.Replace(l, " +wait ", " +wait +waitaof ", 1)
			}
		}
	}
	path := filepath.Join(dir, "users.acl")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// usersMade makes the same with the script that operators run, and returns its path.
func usersMade(t testing.TB, deployed, dir string) string {
	t.Helper()
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte(password()), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command("sh", filepath.Join(deployed, "users.sh"), secret, secret, secret).Output()
	if err != nil {
		t.Fatalf("run users.sh: %v", err)
	}
	path := filepath.Join(dir, "users.acl")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// deployed is the directory of deploy/redis.
func deployed(t testing.TB) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "deploy", "redis")
}

// moduleRoot is the directory above us that holds go.mod: tests run in the directory of their package.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("find go.mod: none above the working directory")
		}
		dir = up
	}
	return "", fmt.Errorf("find go.mod: %w", err)
}
