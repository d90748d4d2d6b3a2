package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"runtime"

	"github.com/alecthomas/kong"

	"allim/internal/boot"
	"allim/internal/keyspace"
	"allim/internal/settings"
	"allim/internal/store"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// version is set by the linker: -X main.version=v1.2.3.
var version = "devel"

// flags are the command line. Flag beats environment beats file beats default, so what the file may say has no default here.
type flags struct {
	Listen     string           `default:":8080" env:"ALLIM_LISTEN" placeholder:"ADDR" help:"Where browsers connect (${default})."`
	ListenOps  string           `name:"listen-ops" default:":9090" env:"ALLIM_LISTEN_OPS" placeholder:"ADDR" help:"Health, metrics and profiles, for the inner network only (${default})."`
	Redis      string           `env:"ALLIM_REDIS" placeholder:"URL" help:"Redis, as redis:// or rediss:// URL (redis://localhost:6379/0)."`
	Partitions int              `env:"ALLIM_PARTITIONS" placeholder:"N" help:"Partitions of this Redis, fixed for its life (128)."`
	Config     string           `env:"ALLIM_CONFIG" placeholder:"FILE" help:"Settings file (YAML): keys, topics, inbox, anonymous, public_url, origins, hosts."`
	LogLevel   slog.Level       `default:"info" env:"ALLIM_LOG_LEVEL" placeholder:"LEVEL" help:"debug, info, warn or error (${default})."`
	Version    kong.VersionFlag `help:"Show the version."`
}

// A config is what run needs, checked.
type config struct {
	listen, listenOps string
	redis             string
	keys              *keyspace.Map
	classes           []store.Class
	inbox             store.Inbox
	verifier          *auth.Verifier
	anonymous         *auth.Identity
	hosts, origins    []string
	logLevel          slog.Level
}

// configure reads flags, environment and file. Its error joins every mistake.
func configure(args []string) (c config, err error) {
	var f flags
	shown := false
	parser, err := kong.New(&f, kong.Name("gateway"), kong.Description("What browsers connect to, behind it Redis pub/sub."), kong.Exit(func(int) { shown = true }),
		kong.Vars{"version": fmt.Sprintf("gateway %s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)})
	if err != nil {
		return c, fmt.Errorf("read flags: %w", err)
	}
	if _, err := parser.Parse(args); shown {
		return c, boot.ErrShown
	} else if err != nil {
		return c, fmt.Errorf("read flags: %w", err)
	}
	file, err := settings.Load(f.Config)
	if err != nil {
		return c, err
	}
	c = config{listen: f.Listen, listenOps: f.ListenOps, logLevel: f.LogLevel, redis: cmp.Or(f.Redis, file.Redis, boot.DefaultRedis),
		hosts: file.Hosts, origins: file.Origins}
	var errs [6]error
	c.keys, errs[0] = keyspace.NewMap(cmp.Or(f.Partitions, file.Partitions))
	c.classes, errs[1] = boot.Classes(file.Topics)
	c.inbox, errs[2] = boot.Inbox(file.Inbox)
	c.verifier, errs[3] = verifier(file)
	c.anonymous, errs[4] = anonymous(file.Anonymous)
	errs[5] = c.public(file.PublicURL)
	return c, errors.Join(errs[:]...)
}

func verifier(file *settings.File) (*auth.Verifier, error) {
	if len(file.Keys) == 0 && file.Anonymous == nil {
		return nil, &notify.FieldError{Field: "keys", Want: "at least one key for clients' tokens, or `anonymous`, in the settings file (--config)"}
	}
	keys, err := boot.Keys(file.Keys)
	if err != nil {
		return nil, err
	}
	return auth.NewVerifier(auth.Options{Keys: keys, Audience: file.Audience})
}

func anonymous(g *settings.Grant) (*auth.Identity, error) {
	if g == nil {
		return nil, nil
	}
	return auth.Anonymous(auth.Grant{Subscribe: g.Subscribe, Hear: g.Hear, Send: g.Send})
}

// public adds the gateway's own address to what it answers to and where pages come from.
func (c *config) public(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
		return &notify.FieldError{Field: "public_url", Want: "the gateway's address as browsers see it, such as https://push.example.com"}
	}
	c.hosts = append(c.hosts, u.Hostname())
	c.origins = append(c.origins, u.Scheme+"://"+u.Host)
	return nil
}
