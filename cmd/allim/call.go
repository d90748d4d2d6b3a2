package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"allim/pkg/notify"
	allimv1 "allim/proto/allim/v1"
)

// publisherFlags say where the publisher is and who calls.
type publisherFlags struct {
	Publisher string        `default:"127.0.0.1:50051" env:"ALLIM_PUBLISHER" placeholder:"ADDR" help:"The publisher's gRPC address (${default})."`
	Key       string        `env:"ALLIM_KEY" help:"API key of the caller, or a token that --allow made. Better in ALLIM_KEY: what stands here, others see in the list of processes."`
	TLS       bool          `name:"tls" env:"ALLIM_PUBLISHER_TLS" help:"The publisher has a certificate that this machine's authorities vouch for."`
	CAFile    string        `name:"ca-file" type:"existingfile" env:"ALLIM_PUBLISHER_CA_FILE" placeholder:"FILE" help:"The same, with the authorities of a PEM file."`
	Timeout   time.Duration `default:"5s" help:"How long to wait (${default})."`
	ID        string        `name:"id" help:"Idempotency key: the same one again changes nothing. Made up when absent."`
}

// connect makes the connection, which its caller closes.
func (f *publisherFlags) connect() (*grpc.ClientConn, error) {
	if f.Key == "" {
		return nil, &mistake{errors.New("no key: expected ALLIM_KEY, or --key")}
	}
	over, err := f.transport()
	if err != nil {
		return nil, err
	}
	return dial(f.Publisher, f.Key, over)
}

// call calls the publisher once.
func (f *publisherFlags) call(ctx context.Context, do func(context.Context, allimv1.PublisherClient) error) error {
	conn, err := f.connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	return f.said(do(ctx, allimv1.NewPublisherClient(conn)))
}

// said is the error of a call for people; nil of nil.
func (f *publisherFlags) said(err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	return fmt.Errorf("%s: %s%s", s.Code(), s.Message(), f.hint(s))
}

// transport is how the connection is secured: with TLS where one of its flags stands, else not at all.
func (f *publisherFlags) transport() (credentials.TransportCredentials, error) {
	if f.CAFile != "" {
		over, err := credentials.NewClientTLSFromFile(f.CAFile, "")
		if err != nil {
			return nil, &mistake{fmt.Errorf("--ca-file: expected a file with certificates in PEM: %w", err)}
		}
		return over, nil
	}
	if f.TLS {
		return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12}), nil
	}
	return insecure.NewCredentials(), nil
}

// hint is what a connection that was never made says to people.
func (f *publisherFlags) hint(s *status.Status) string {
	switch said := s.Message(); {
	case s.Code() != codes.Unavailable:
		return ""
	case !f.TLS && f.CAFile == "" && strings.Contains(said, "server preface"):
		return " (is that port gRPC? If it speaks TLS: --tls or --ca-file)"
	case strings.Contains(said, "first record does not look like a TLS handshake"):
		return " (the publisher speaks no TLS: leave out --tls and --ca-file)"
	case strings.Contains(said, "connection refused"):
		return " (does the publisher run there? --publisher says where)"
	}
	return ""
}

// dial makes a connection whose calls carry a key.
func dial(addr, key string, over credentials.TransportCredentials) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(over),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key), method, req, reply, cc, opts...)
		}))
	if err != nil {
		return nil, fmt.Errorf("publisher %s: %w", addr, err)
	}
	return conn, nil
}

type notifyCommand struct {
	publisherFlags `embed:""`
	To             []string `required:"" placeholder:"USER" help:"Users, as in the sub of their tokens; may be repeated."`
	Category       string   `help:"Category, counted for itself in the badge."`
	Title          string   `help:"Title."`
	Body           string   `help:"Text below the title."`
	URL            string   `name:"url" help:"Where a click leads."`
	Data           string   `help:"The whole data as JSON, instead of title, body and url."`
}

// Run notifies and prints what became of it, a line a user.
func (c *notifyCommand) Run(ctx context.Context) error {
	data, err := c.data()
	if err != nil {
		return err
	}
	return c.call(ctx, func(ctx context.Context, p allimv1.PublisherClient) error {
		r, err := p.Notify(ctx, &allimv1.NotifyRequest{Id: orNew(c.ID), To: &allimv1.Audience{Users: c.To}, Category: c.Category, Data: data})
		if err != nil {
			return err
		}
		for _, u := range r.GetResults() {
			fmt.Printf("%s: %s, %d unread, position %s%s\n", u.GetUser(), u.GetCode(), u.GetUnread(), u.GetPos(), again(u.GetDuplicate()))
		}
		return nil
	})
}

func (c *notifyCommand) data() ([]byte, error) {
	if c.Data != "" {
		return []byte(c.Data), nil
	}
	if c.Title == "" {
		return nil, errors.New("--title or --data is needed")
	}
	return json.Marshal(struct {
		Title string `json:"title"`
		Body  string `json:"body,omitempty"`
		URL   string `json:"url,omitempty"`
	}{c.Title, c.Body, c.URL})
}

type publishCommand struct {
	publisherFlags `embed:""`
	Topic          []string `help:"Topics; may be repeated."`
	Event          string   `help:"Name of the event."`
	Data           string   `help:"Data as JSON."`
	Ephemeral      bool     `help:"To those who are connected, and not stored."`
	Stream         bool     `help:"Read messages from the standard input instead, a line each, as JSON like the calls over HTTP: topics, or to for a notification; id, event, data and so on. Prints a line for each."`
}

// Run publishes and prints what became of it, a line a topic.
func (c *publishCommand) Run(ctx context.Context) error {
	switch alone := len(c.Topic) > 0 || c.Event != "" || c.Data != "" || c.Ephemeral || c.ID != ""; {
	case c.Stream && alone:
		return &mistake{errors.New("--stream takes all of a message from its line: expected no --topic, --event, --data, --ephemeral, --id")}
	case c.Stream:
		return c.lines(ctx, os.Stdin, os.Stdout)
	case len(c.Topic) == 0 || c.Data == "":
		return &mistake{errors.New("expected --topic and --data, or --stream")}
	}
	return c.call(ctx, func(ctx context.Context, p allimv1.PublisherClient) error {
		r := &allimv1.PublishRequest{Id: orNew(c.ID), Topics: c.Topic, Event: c.Event, Data: []byte(c.Data)}
		if c.Ephemeral {
			r.Mode = allimv1.PublishRequest_EPHEMERAL
		}
		reply, err := p.Publish(ctx, r)
		if err != nil {
			return err
		}
		for _, t := range reply.GetResults() {
			fmt.Printf("%s: %s, position %s, %d receivers%s\n", t.GetTopic(), t.GetCode(), or(t.GetPos(), "none"), t.GetReceivers(), again(t.GetDuplicate()))
		}
		return nil
	})
}

func again(duplicate bool) string {
	if duplicate {
		return ", sent before under this id"
	}
	return ""
}

func orNew(id string) string { return or(id, rand.Text()[:min(26, notify.MaxID)]) }

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
