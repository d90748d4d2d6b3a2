// Command inbox runs the example shop alone, for people who already run Allim: its page, and its backend that calls a
// publisher. Two users need tokens of your own making, which the gateway accepts and which may subscribe to orders/*.
//
// With a webhook of the publisher that leads to this page's /hook, and its secret here, colleagues can be called who do not look.
//
//	go run ./examples/inbox/cmd -publisher 127.0.0.1:50051 -key "$KEY" -gateway http://127.0.0.1:8080 -users "ann:Ann:$ANN,ben:Ben:$BEN"
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"allim/examples/inbox"
	allimv1 "allim/proto/allim/v1"
)

const (
	headerWithin = 5 * time.Second
	idleWithin   = 60 * time.Second
	mostHeader   = 8 << 10 // bytes
	stopWithin   = 5 * time.Second
)

type config struct {
	listen, publisher, key, gateway, users, hosts, hook string
	tls                                                 bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, readConfig()); err != nil {
		fmt.Fprintln(os.Stderr, "inbox:", err)
		os.Exit(1)
	}
}

// readConfig: a flag wins over the environment.
func readConfig() config {
	env := func(name, otherwise string) string { return cmp.Or(os.Getenv(name), otherwise) }
	var c config
	flag.StringVar(&c.listen, "listen", env("INBOX_LISTEN", "127.0.0.1:8088"), "address of the page (INBOX_LISTEN)")
	flag.StringVar(&c.publisher, "publisher", env("ALLIM_PUBLISHER", "127.0.0.1:50051"), "gRPC address of the publisher (ALLIM_PUBLISHER)")
	flag.BoolVar(&c.tls, "tls", false, "speak TLS to the publisher")
	flag.StringVar(&c.key, "key", os.Getenv("ALLIM_KEY"), "API key or service token for the publisher; better given as ALLIM_KEY")
	flag.StringVar(&c.gateway, "gateway", env("ALLIM_GATEWAY", "http://127.0.0.1:8080"), "URL of the gateway (ALLIM_GATEWAY)")
	flag.StringVar(&c.users, "users", os.Getenv("INBOX_USERS"), "colleagues as id:Name:token,…; better given as INBOX_USERS")
	flag.StringVar(&c.hosts, "hosts", os.Getenv("INBOX_HOSTS"), "host names of the page besides localhost and addresses, separated by commas (INBOX_HOSTS)")
	flag.StringVar(&c.hook, "hook-secret", os.Getenv("INBOX_HOOK_SECRET"), "secret of the publisher's webhook to this page's /hook: who does not look is called; better given as INBOX_HOOK_SECRET")
	flag.Parse()
	return c
}

func run(ctx context.Context, c config) (err error) {
	users, err := parseUsers(c.users)
	if err != nil {
		return err
	}
	conn, err := dial(c)
	if err != nil {
		return fmt.Errorf("dial publisher %s: %w", c.publisher, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	shop, err := inbox.New(inbox.Options{
		Publisher: allimv1.NewPublisherClient(conn), Inbox: allimv1.NewInboxClient(conn), HookSecret: c.hook, Users: users, GatewayURL: c.gateway,
		Hosts: strings.FieldsFunc(c.hosts, func(r rune) bool { return r == ',' }),
		Log:   slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for _, u := range users {
		fmt.Printf("%s: http://%s/?user=%s\n", u.Name, listener.Addr(), u.ID)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- shop.Run(running) }()
	err = serve(ctx, listener, shop)
	stop()
	return errors.Join(err, <-ended)
}

// serve answers until ctx ends, then lets the calls under way finish.
func serve(ctx context.Context, listener net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: headerWithin, ReadTimeout: 2 * headerWithin, IdleTimeout: idleWithin, MaxHeaderBytes: mostHeader}
	stopped := make(chan error, 1)
	served, ended := context.WithCancel(ctx)
	go func() {
		<-served.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		stopped <- server.Shutdown(last)
	}()
	err := server.Serve(listener)
	ended()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, <-stopped)
}

func dial(c config) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if c.tls {
		creds = credentials.NewTLS(nil)
	}
	return grpc.NewClient(c.publisher, grpc.WithTransportCredentials(creds), grpc.WithUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if c.key != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.key)
			}
			return invoke(ctx, method, req, reply, cc, opts...)
		}))
}

func parseUsers(list string) ([]inbox.User, error) {
	var users []inbox.User
	for one := range strings.SplitSeq(list, ",") {
		parts := strings.SplitN(one, ":", 3)
		if len(parts) != 3 {
			return nil, errors.New("parse users: want -users id:Name:token,id:Name:token")
		}
		users = append(users, inbox.User{ID: parts[0], Name: parts[1], Token: parts[2]})
	}
	return users, nil
}
