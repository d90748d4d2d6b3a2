package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"allim/internal/testkit"
	allimv1 "allim/proto/allim/v1"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type publisher struct {
	allimv1.UnimplementedPublisherServer
	heard chan *allimv1.NotifyRequest // room for one
	key   chan []string               // room for one
}

func (p *publisher) Notify(ctx context.Context, req *allimv1.NotifyRequest) (*allimv1.NotifyResponse, error) {
	head, _ := metadata.FromIncomingContext(ctx)
	p.key <- head.Get("authorization")
	p.heard <- req
	return &allimv1.NotifyResponse{Results: []*allimv1.NotifyResult{{User: req.To.Users[0], Unread: 3, Pos: "k3abcd.7"}}}, nil
}

func TestItNotifiesOneUserAndSaysWhatBecameOfIt(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &publisher{heard: make(chan *allimv1.NotifyRequest, 1), key: make(chan []string, 1)}
	server := grpc.NewServer()
	allimv1.RegisterPublisherServer(server, p)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() { server.Stop(); <-served }()

	program := filepath.Join(t.TempDir(), "backend")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program, "ann", `Your "tea" is here`)
	cmd.Env = append(os.Environ(), "ALLIM_PUBLISHER="+listener.Addr().String(), "ALLIM_KEY=k1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("run: %v\n%s", err, out)
	}
	if got, want := string(out), "ann: OK, 3 unread, position k3abcd.7\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if key := <-p.key; len(key) != 1 || key[0] != "Bearer k1" {
		t.Errorf("authorization: got %q, want Bearer k1", key)
	}
	if req := <-p.heard; string(req.Data) != `{"title":"Your \"tea\" is here"}` || !strings.HasPrefix(req.Id, "backend-") {
		t.Errorf("got %v, want the title as JSON and an id", req)
	}
}
