//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	pb "allim/proto/allim/v1"
)

const apiKey = "the-api-key-of-the-load-generator"

// allim is ours: gateways and one publisher, as in production but for the limit of new connections in a second, the drain and the pings.
var allim = product{"allim", func(ctx context.Context, o setup) (s *served, err error) {
	config := filepath.Join(o.dir, "allim.yaml")
	text := fmt.Sprintf("public_url: https://load.example.test\nkeys: [{algorithm: HS256, secret: %q}]\n"+
		"api_keys: [{id: load, key: %q, allow: ['publish:*', 'notify:*', inbox]}]\nlimits: {upgrades: 1000000, ping: %s}\n", secret, apiKey, o.ping)
	if o.compress {
		text += "websocket: {deflate: 512}\n"
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write settings: %w", err)
	}
	s = &served{dialect: dialect{welcome: []byte(`"type":"welcome"`)}}
	defer func() {
		if err != nil {
			_ = s.close() // the first error says why
			s = nil
		}
	}()
	args := []string{"--redis-url=redis://" + o.redis + "/0", "--config=" + config, "--listen-ops=127.0.0.1:0"}
	p, err := launch(o.dir, "publisher", o.cores.servers, o.program("publisher"), append(args[:len(args):len(args)], "--listen-grpc=127.0.0.1:0", "--listen-http=127.0.0.1:0")...)
	if err != nil {
		return s, err
	}
	s.publishers = []*process{p}
	if err := s.each(o, "gateway", o.program("gateway"), func(int) []string {
		return append(args[:len(args):len(args)], "--listen-public=127.0.0.1:0", "--drain-pause=0s", "--drain-window=0s")
	}); err != nil {
		return s, err
	}
	for _, p := range append(s.gateways[:len(s.gateways):len(s.gateways)], s.publishers...) {
		ops, err := p.addr("ops")
		if err != nil {
			return s, err
		}
		if err := p.ready("http://" + ops + "/healthz/ready"); err != nil {
			return s, err
		}
	}
	at, err := p.addr("grpc")
	if err != nil {
		return s, err
	}
	conn, err := grpc.NewClient(at, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return s, fmt.Errorf("connect to publisher: %w", err)
	}
	s.free = func() { _ = conn.Close() }
	s.call(conn, o.compress)
	return s, nil
}}

// call is how clients and backends talk to it.
func (s *served) call(conn *grpc.ClientConn, compress bool) {
	publisher := pb.NewPublisherClient(conn)
	s.hello = func(user string, topics []string) hello {
		grant := map[string]any{"allim": map[string]any{"subscribe": []string{"load/*"}}}
		return hello{path: "/v1/ws?" + url.Values{"topic": topics}.Encode(), headers: bearer(token(user, grant), compress)}
	}
	s.own = func(user string) string { return "user:" + user }
	s.publish = func(ctx context.Context, topic, id string, data []byte) error {
		_, err := publisher.Publish(authorized(ctx), &pb.PublishRequest{Id: id, Topics: []string{topic}, Event: "load", Data: data})
		return err
	}
	s.notify = func(ctx context.Context, users []string, id string, data []byte) error {
		r, err := publisher.Notify(authorized(ctx), &pb.NotifyRequest{Id: id, To: &pb.Audience{Users: users}, Category: "load", Data: data})
		for _, one := range r.GetResults() {
			if one.Code != 0 {
				err = errors.Join(err, fmt.Errorf("notify %s: %v %s", one.User, one.Code, one.GetMessage()))
			}
		}
		return err
	}
	s.unicast = func(ctx context.Context, user, id string, data []byte) error {
		return s.notify(ctx, []string{user}, id, data)
	}
	s.stream = func(ctx context.Context) (stream, error) { return openStream(ctx, publisher) }
}

func authorized(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+apiKey)
}

// A publishStream is PublishStream of the contract: many messages, one answer each, in order.
type publishStream struct {
	grpc.BidiStreamingClient[pb.PublishStreamRequest, pb.PublishStreamResponse]
	ready []*pb.StreamReply // of the last batch; of the one goroutine that waits for answers
}

func openStream(ctx context.Context, publisher pb.PublisherClient) (stream, error) {
	s, err := publisher.PublishStream(authorized(ctx))
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	return &publishStream{BidiStreamingClient: s}, nil
}

// send notifies a user on his own topic, as a unicast does, and publishes on every other.
func (s *publishStream) send(topic, id string, data []byte) error {
	m := &pb.PublishStreamRequest{}
	if user, own := strings.CutPrefix(topic, "user:"); own {
		m.Call = &pb.PublishStreamRequest_Notify{Notify: &pb.NotifyRequest{Id: id, To: &pb.Audience{Users: []string{user}}, Category: "load", Data: data}}
	} else {
		m.Call = &pb.PublishStreamRequest_Publish{Publish: &pb.PublishRequest{Id: id, Topics: []string{topic}, Event: "load", Data: data}}
	}
	return s.Send(m)
}

func (s *publishStream) acknowledged() error {
	for len(s.ready) == 0 {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		s.ready = r.Replies
	}
	r := s.ready[0]
	s.ready = s.ready[1:]
	if r.Code != 0 {
		return fmt.Errorf("stream message %s: %v %s", r.Id, r.Code, r.GetMessage())
	}
	return nil
}

func (s *publishStream) close() error { return s.CloseSend() }
