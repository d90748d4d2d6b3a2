package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

func TestNobodyHoldsAConnectionForEver(t *testing.T) {
	l, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	short := bounds{header: 100 * time.Millisecond, read: 200 * time.Millisecond, write: 300 * time.Millisecond, idle: 100 * time.Millisecond}
	big := make([]byte, 8<<20)
	go func() {
		done <- serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(big) }), slog.New(slog.DiscardHandler), short, nil)
	}()
	for name, says := range map[string]string{
		"half a head":                "GET / HTTP/1.1\r\nHost: x\r\n",
		"a body that never comes":    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"an answer that is not read": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"nothing":                    "",
	} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, says)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if name == "an answer that is not read" { // the server gives up writing; what is in the buffers may still be read
			testkit.Eventually(t, 10*time.Second, func() bool { _, werr := io.WriteString(c, "x"); return werr != nil }, "the server lets go")
		} else {
			_, err = io.Copy(io.Discard, c)
		}
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			t.Errorf("%s: still open after 10 s", name)
		}
		_ = c.Close()
	}
	cancel()
	if err := testkit.Receive(t, 10*time.Second, done, "its end"); err != nil {
		t.Error(err)
	}
}

// A browser connects ahead, a balancer looks whether the port is open: net/http takes such a connection for one that is at work for seconds.
func TestWhoConnectedAndNeverAskedMakesTheEndNoFailure(t *testing.T) {
	l, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	seen := make(chan struct{}, 1)
	go func() {
		done <- serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen <- struct{}{} }), slog.New(slog.DiscardHandler), public, nil)
	}()
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	asks, err := net.Dial("tcp", l.Addr().String()) // it was accepted after the silent one
	if err != nil {
		t.Fatal(err)
	}
	defer asks.Close()
	_, _ = io.WriteString(asks, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	testkit.Receive(t, 10*time.Second, seen, "a request")
	cancel()
	if err := testkit.Receive(t, 10*time.Second, done, "its end"); err != nil {
		t.Error(err)
	}
}

func TestMoreTokensThanTheMachineCanVerifyAreToldToComeBack(t *testing.T) {
	hold := make(chan struct{})
	verify := Limited(func(string) (*auth.Identity, error) { <-hold; return nil, nil })
	results := make(chan error, 1000)
	for range 1000 {
		go func() { _, err := verify("x"); results <- err }()
	}
	err := testkit.Receive(t, 10*time.Second, results, "a refusal")
	var re *notify.RetryError
	if !errors.Is(err, notify.ErrUnavailable) || !errors.As(err, &re) || re.After < time.Second || re.After > 11*time.Second {
		t.Errorf("got %v", err)
	}
	close(hold)
	for range 999 {
		testkit.Receive(t, 10*time.Second, results, "the others")
	}
	if _, err := verify("x"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
