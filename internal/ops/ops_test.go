package ops

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestThePortSaysLiveAndReadyUntilItCloses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var unready atomic.Pointer[error]
	why := errors.New("no probe yet")
	unready.Store(&why)
	ready := func() error { return *unready.Load() }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, l, Options{Ready: ready, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	}()
	get := func(path string) (int, string) {
		w, err := http.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer w.Body.Close()
		text, _ := io.ReadAll(w.Body)
		return w.StatusCode, string(text)
	}
	for path, want := range map[string]int{"/healthz/live": 200, "/healthz/ready": 503, "/metrics": 200, "/debug/pprof/": 200, "/debug/pprof/cmdline": 200, "/": 404} {
		if got, text := get(path); got != want {
			t.Errorf("%s: got %d %.80s, want %d", path, got, text, want)
		}
	}
	if _, text := get("/healthz/ready"); text != "no probe yet\n" {
		t.Errorf("why not ready: got %q", text)
	}
	why = nil
	unready.Store(new(error))
	if got, _ := get("/healthz/ready"); got != 200 {
		t.Errorf("ready: got %d", got)
	}
	cancel()
	if err := testkit.Receive(t, 10*time.Second, ended, "the end"); err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the port is open after the end")
	}
	if err := Run(t.Context(), l, Options{Ready: ready, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("no error from a closed listener")
	}
}

func TestReadyIsAFreshPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fail, hang atomic.Bool
		fail.Store(true)
		p := &Pulse{Ping: func(ctx context.Context) error {
			if hang.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			if fail.Load() {
				return errors.New("away")
			}
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		after := func(d time.Duration, ready bool, what string) {
			t.Helper()
			<-time.After(d)
			synctest.Wait()
			if err := p.Ready(); (err == nil) != ready {
				t.Errorf("%s: got %v", what, err)
			}
		}
		after(time.Minute, false, "before the first answer")
		fail.Store(false)
		after(pingFirst, true, "at the first answer")
		fail.Store(true)
		after(pingFresh-pingEvery, true, "in a short blip")
		after(pingEvery+time.Second, false, "on an old answer")
		fail.Store(false)
		after(pingEvery, true, "answered again")
		hang.Store(true)
		after(pingFresh+time.Second, false, "without an answer")
		hang.Store(false)
		after(pingEvery+pingTimeout, true, "answered after a ping that was given up")
		p.Stopping()
		after(pingEvery, false, "stopping")
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}
