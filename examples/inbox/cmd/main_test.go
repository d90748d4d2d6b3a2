package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"allim/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestTheExampleServesUntilItIsTold(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close() // a free port, most likely still
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, config{listen: address, publisher: "127.0.0.1:1", gateway: "http://127.0.0.1:1", users: "ann:Ann:a.b:c,ben:Ben:d"})
	}()
	testkit.EventuallyNil(t, 5*time.Second, func() error {
		res, err := http.Get("http://" + address + "/api/session?user=ann")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err == nil && !strings.Contains(string(body), `"token":"a.b:c"`) {
			t.Fatalf("got %s, want Ann's token", body)
		}
		return err
	}, "the page answers")
	stop()
	if err := testkit.Receive(t, 5*time.Second, ended, "run ends"); err != nil {
		t.Errorf("run: got %v, want a clean end", err)
	}
}

func TestMistakesAreSaidAtTheStart(t *testing.T) {
	for want, c := range map[string]config{
		"id:Name:token": {users: "ann"},
		"GatewayURL":    {users: "ann:Ann:t", gateway: "nonsense", publisher: "127.0.0.1:1"},
		"listen":        {users: "ann:Ann:t", gateway: "http://h", publisher: "127.0.0.1:1", listen: "127.0.0.1:x"},
	} {
		if err := run(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that says %q", err, want)
		}
	}
}
