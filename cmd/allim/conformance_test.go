package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"allim/internal/testkit"
)

func TestTheEchoOfTheConformanceCommand(t *testing.T) {
	for profile, answered := range map[string]int32{"suite": 100, "normal": 20} {
		ctx, stop := context.WithCancel(context.Background())
		r, w := io.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- (&conformance{Listen: "127.0.0.1:0", Profile: profile}).run(ctx, w) }()
		said := bufio.NewReader(r)
		where, err := said.ReadString('\n')
		if ready, rerr := said.ReadString('\n'); err != nil || rerr != nil || ready != "ready\n" {
			t.Fatal(where, ready, err, rerr)
		}
		var pongs atomic.Int32
		c, _, err := websocket.Dial(testkit.Context(t, 5*time.Second), strings.TrimSpace(strings.TrimPrefix(where, "WebSocket echo at ")),
			&websocket.DialOptions{OnPongReceived: func(context.Context, []byte) { pongs.Add(1) }})
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadLimit(-1)
		message := strings.Repeat("x", map[string]int{"suite": echoMax, "normal": 1}[profile])
		live, over := context.WithCancel(context.Background())
		var pings sync.WaitGroup
		for range 100 {
			pings.Go(func() { _ = c.Ping(live) }) // those without a pong wait
		}
		wrote := make(chan error, 1)
		go func() { wrote <- c.Write(context.Background(), websocket.MessageText, []byte(message)) }()
		if _, b, err := c.Read(testkit.Context(t, 20*time.Second)); err != nil || string(b) != message {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
		c.CloseRead(live)
		testkit.Eventually(t, 10*time.Second, func() bool { return pongs.Load() == answered }, profile+": pings are answered within the limit")
		over()
		pings.Wait()
		_ = c.CloseNow()
		stop()
		if err := testkit.Receive(t, 5*time.Second, ended, "its end"); err != nil {
			t.Error(err)
		}
	}
	for _, addr := range []string{"0.0.0.0:3000", "example.com:80", "x"} {
		err := (&conformance{Listen: addr}).run(context.Background(), io.Discard)
		if _, is := err.(*mistake); !is || !strings.Contains(err.Error(), "--listen: expected a loopback address") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
