package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
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
	ListenGRPC   string           `name:"listen-grpc" default:":50051" env:"ALLIM_LISTEN_GRPC" placeholder:"ADDR" help:"Where backends call by gRPC (${default})."`
	ListenHTTP   string           `name:"listen-http" default:":8081" env:"ALLIM_LISTEN_HTTP" placeholder:"ADDR" help:"Where backends call with JSON over HTTP (${default})."`
	ListenOps    string           `name:"listen-ops" default:":9091" env:"ALLIM_LISTEN_OPS" placeholder:"ADDR" help:"Health, metrics and profiles, for the inner network only (${default})."`
	Redis        string           `env:"ALLIM_REDIS" placeholder:"URL" help:"Redis, as redis:// or rediss:// URL (redis://localhost:6379/0)."`
	Partitions   int              `env:"ALLIM_PARTITIONS" placeholder:"N" help:"Partitions of this Redis, fixed for its life (128)."`
	Config       string           `env:"ALLIM_CONFIG" placeholder:"FILE" help:"Settings file (YAML): keys, api_keys, topics, inbox."`
	NoReflection bool             `env:"ALLIM_NO_REFLECTION" help:"Do not tell callers the services' descriptions."`
	LogLevel     slog.Level       `default:"info" env:"ALLIM_LOG_LEVEL" placeholder:"LEVEL" help:"debug, info, warn or error (${default})."`
	Version      kong.VersionFlag `help:"Show the version."`
}

// A config is what run needs, checked.
type config struct {
	listenGRPC, listenHTTP, listenOps string
	redis                             string
	keys                              *keyspace.Map
	classes                           []store.Class
	inbox                             store.Inbox
	services                          *auth.Services
	noReflection                      bool
	logLevel                          slog.Level
}

// configure reads flags, environment and file. Its error joins every mistake.
func configure(args []string) (c config, err error) {
	var f flags
	shown := false
	parser, err := kong.New(&f, kong.Name("publisher"), kong.Description("What backends call, in front of Redis."), kong.Exit(func(int) { shown = true }),
		kong.Vars{"version": fmt.Sprintf("publisher %s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)})
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
	c = config{listenGRPC: f.ListenGRPC, listenHTTP: f.ListenHTTP, listenOps: f.ListenOps, noReflection: f.NoReflection, logLevel: f.LogLevel,
		redis: cmp.Or(f.Redis, file.Redis, boot.DefaultRedis)}
	var errs [4]error
	c.keys, errs[0] = keyspace.NewMap(cmp.Or(f.Partitions, file.Partitions))
	c.classes, errs[1] = boot.Classes(file.Topics)
	c.inbox, errs[2] = boot.Inbox(file.Inbox)
	c.services, errs[3] = services(file)
	return c, errors.Join(errs[:]...)
}

// services are those who may call. Without any, nobody could: that is a mistake, not a setting.
func services(file *settings.File) (*auth.Services, error) {
	if len(file.Keys) == 0 && len(file.APIKeys) == 0 {
		return nil, &notify.FieldError{Field: "api_keys", Want: "at least one API key, or one of `keys` for service tokens, in the settings file (--config)"}
	}
	table, err := boot.Keys(file.Keys)
	errs := []error{err}
	apiKeys := make([]auth.APIKey, len(file.APIKeys))
	for i, k := range file.APIKeys {
		apiKeys[i] = auth.APIKey{ID: k.ID, Key: string(k.Key), Tenant: k.Tenant, Allow: k.Allow}
	}
	s, err := auth.NewServices(auth.Options{Keys: table}, apiKeys)
	return s, errors.Join(append(errs, err)...)
}
