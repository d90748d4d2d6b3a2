package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"allim/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const ready = "Tokens, good for a day:"

// The README's first command, from the source tree, and every command that it prints, run by a shell exactly as printed.
func TestEveryPrintedCommandWorksAsPrinted(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-modfile=tools/go.mod", "-o", filepath.Join(bin, "grpcurl"), "github.com/fullstorydev/grpcurl/cmd/grpcurl")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build grpcurl: %v\n%s", err, out)
	}
	said := startDemo(t, root)
	url := find(t, said, `new WebSocket\('(ws://[^']*inbox=5)'`)
	token := find(t, said, `'bearer\.([^']*)'`)
	ann := listen(t, url, "allim.v1", "bearer."+token)
	plain := listen(t, find(t, said, `new WebSocket\('(ws://[^']*/)'\)`))
	ann.want(t, `"type":"welcome"`)
	ann.want(t, `"type":"inbox"`)
	plain.want(t, `"type":"welcome"`)
	for _, c := range []struct {
		begins, answers, shows string
		to                     *listener
	}{
		{"go run ./cmd/allim notify", "ann: OK, 1 unread", "Your tea is here", ann},
		{"curl", `"code":"OK"`, "Hello from curl", ann},
		{"grpcurl", `"pos":`, "Hello from grpcurl", ann},
		{"go run ./cmd/allim publish", "public/chat: OK", "hello, everybody", plain},
	} {
		line := find(t, said, `(?m)^    (`+regexp.QuoteMeta(c.begins)+` .*)$`)
		sh := exec.Command("sh", "-c", line)
		sh.Dir = root
		sh.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		out, err := sh.CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.answers) {
			t.Errorf("%s\n%v: %s\nwant …%s…", line, err, out, c.answers)
			continue
		}
		c.to.want(t, c.shows)
	}
}

// startDemo runs the demo with `go run`, until the test ends by Ctrl-C, and returns what it said.
func startDemo(t *testing.T, root string) string {
	t.Helper()
	cmd := exec.Command("go", "run", "./cmd/allim", "demo")
	cmd.Dir = root
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) // as a terminal does
		_ = cmd.Wait()                                     // `go run` itself answers an interrupt with 1, whatever the demo did
		if stderr.Len() > 0 {
			t.Errorf("the demo complained:\n%s", stderr.String())
		}
	})
	var said strings.Builder
	for in := bufio.NewScanner(out); in.Scan(); {
		said.WriteString(in.Text() + "\n")
		if strings.Contains(said.String(), ready) && strings.Contains(in.Text(), "ben  ") {
			return said.String()
		}
	}
	t.Fatalf("the demo said only:\n%s%s", said.String(), stderr.String())
	return ""
}

func find(t *testing.T, text, expr string) string {
	t.Helper()
	m := regexp.MustCompile(expr).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("nothing like %s in:\n%s", expr, text)
	}
	return m[1]
}

// A listener is a page that hears.
type listener struct{ frames chan string }

func listen(t *testing.T, url string, protocols ...string) *listener {
	t.Helper()
	c, _, err := websocket.Dial(testkit.Context(t, 10*time.Second), url, &websocket.DialOptions{Subprotocols: protocols})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(1 << 20)
	l, done := &listener{make(chan string, 100)}, make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, b, err := c.Read(context.Background())
			if err != nil {
				return
			}
			l.frames <- string(b)
		}
	}()
	t.Cleanup(func() { _ = c.CloseNow(); <-done })
	return l
}

func (l *listener) want(t *testing.T, part string) {
	t.Helper()
	for {
		f := testkit.Receive(t, 10*time.Second, l.frames, "a frame with "+part)
		if strings.Contains(f, part) {
			return
		}
	}
}

// runDemo runs a demo in this process; the function it returns is Ctrl-C.
func runDemo(t *testing.T, d *demo) (said string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	in, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := d.run(ctx, out, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
		_ = out.CloseWithError(io.EOF)
		done <- err
	}()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	var text strings.Builder
	for lines := bufio.NewScanner(in); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if strings.Contains(text.String(), ready) && strings.Contains(lines.Text(), "ben  ") {
			go func() { _, _ = io.Copy(io.Discard, in) }()
			return text.String(), stop
		}
	}
	t.Fatalf("the demo ended with %v and said:\n%s", <-done, text.String())
	return "", nil
}

func TestTakenPortIsReplacedAndSaid(t *testing.T) {
	for _, p := range []string{"8080", "50051"} {
		if l, err := net.Listen("tcp", "127.0.0.1:"+p); err == nil { // taken by us, or by somebody else: both will do
			defer l.Close()
		}
	}
	said, stop := runDemo(t, &demo{Host: "127.0.0.1"})
	for _, want := range []string{"Port 8080 is taken. On ", "instead: page and gateway.", "Port 50051 is taken. On ", "instead: publisher, gRPC."} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing like %q in:\n%s", want, said)
		}
	}
	listen(t, find(t, said, `new WebSocket\('(ws://[^']*/)'\)`)).want(t, `"type":"welcome"`)
	if err := stop(); err != nil {
		t.Errorf("the demo ended with %v", err)
	}
}

func TestKeysAreNewAtEachStart(t *testing.T) {
	a, err := newCast()
	if err != nil {
		t.Fatal(err)
	}
	b, err := newCast()
	if err != nil {
		t.Fatal(err)
	}
	if a.yourKey == b.yourKey || a.shopKey == b.shopKey || a.shopKey == a.yourKey || a.users[0].Token == b.users[0].Token {
		t.Error("a key came twice")
	}
	if _, err := b.verifier.Verify(a.users[0].Token); err == nil {
		t.Error("a token of the last start is taken")
	}
}

func TestOtherAddressesNeedTheFlagThatSaysSo(t *testing.T) {
	for _, host := range []string{"0.0.0.0", "::", "192.0.2.1", "example.com"} {
		err := (&demo{Host: host}).run(context.Background(), io.Discard, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "--open-to-network") {
			t.Errorf("--host %s: %v", host, err)
		}
	}
	d := &demo{Host: "0.0.0.0", Open: true}
	said, _ := runDemo(t, d)
	listen(t, find(t, said, `new WebSocket\('(ws://127\.0\.0\.1[^']*/)'\)`)).want(t, `"type":"welcome"`)
}

func TestTheSameDemoOnARealRedis(t *testing.T) {
	srv := testkit.Redis(t)
	said, stop := runDemo(t, &demo{Host: "127.0.0.1", Redis: srv.As("admin")})
	if !strings.Contains(said, "Redis       yours") {
		t.Errorf("whose Redis is it?\n%s", said)
	}
	p := publisherFlags{Publisher: find(t, said, `--publisher (\S+)`), Key: find(t, said, `--key (\S+)`), Timeout: 5 * time.Second}
	if err := (&notifyCommand{publisherFlags: p, To: []string{"ann"}, Title: "hi"}).Run(testkit.Context(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	keys, err := srv.Client().Keys(testkit.Context(t, 5*time.Second), "al:*:default:i:ann:*").Result()
	if err != nil || len(keys) == 0 {
		t.Errorf("keys of ann: %v, %v", keys, err)
	}
	if err := (&publishCommand{publisherFlags: p, Topic: []string{"a b"}, Data: "1"}).Run(testkit.Context(t, 10*time.Second)); err == nil || !strings.Contains(err.Error(), "InvalidArgument: topics[0]") {
		t.Errorf("a bad topic: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("the demo ended with %v", err)
	}
}

func TestCommandLineMistakesEndWith2(t *testing.T) {
	for _, args := range [][]string{{"dance"}, {"demo", "--no-such-flag"}, {"notify"}, {}} {
		if code := start(args); code != mistaken {
			t.Errorf("allim %v ended with %d", args, code)
		}
	}
	if code := start([]string{"--version"}); code != 0 {
		t.Errorf("--version ended with %d", code)
	}
	if code := start([]string{"notify", "--key", "x", "--to", "ann"}); code != failed {
		t.Errorf("notify without a title ended with %d", code)
	}
	if data, err := (&notifyCommand{Title: "a", URL: "/x"}).data(); err != nil || !json.Valid(data) {
		t.Errorf("data %s, %v", data, err)
	}
}
