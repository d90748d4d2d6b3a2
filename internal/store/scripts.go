package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/pkg/notify"
)

//go:embed lua/*.lua
var sources embed.FS

// The scripts. They are constants: what callers send goes into ARGV only.
var (
	publishScript      = script("lib", "write", "many", "publish")
	notifyScript       = script("lib", "write", "many", "items", "inbox", "keep", "notify")
	noticeScript       = script("lib", "write", "many", "items", "inbox", "keep", "deliver", "notice")
	markScript         = script("lib", "write", "items", "inbox", "keep", "fence", "events", "news", "mark")
	changeScript       = script("lib", "write", "items", "inbox", "keep", "fence", "change")
	preferencesScript  = script("lib", "write", "items", "inbox", "keep", "fence", "prefs")
	dueScript          = script("lib", "write", "many", "items", "inbox", "keep", "deliver", "due")
	duePollScript      = script("lib", "duepoll")
	doneScript         = script("lib", "items", "done")
	recoverScript      = script("lib", "recover")
	recoverInboxScript = script("lib", "items", "inbox", "recover")
	listScript         = script("lib", "items", "inbox", "list")
	renewScript        = script("renew")
	lookScript         = script("lib", "look")
	replicasScript     = script("replicas")
	watcherScript      = script("lib", "watcher")
	listenScript       = script("lib", "listen")
	trimScript         = script("lib", "events", "trim")
	presentScript      = script("lib", "present")
	presenceScript     = script("lib", "events", "online", "presence")
	reapScript         = script("lib", "events", "online", "reap")
	offlineScript      = script("lib", "events", "online", "offline")
)

func script(parts ...string) *redis.Script {
	var b strings.Builder
	for _, p := range parts {
		src, err := fs.ReadFile(sources, "lua/"+p+".lua")
		if err != nil {
			panic(err) // embedded at build time: it cannot be missing
		}
		b.Write(src)
	}
	return redis.NewScript(b.String())
}

// A call is one run of a script.
type call struct {
	script *redis.Script
	keys   []string
	args   []any
	fence  int // where a new change's number stands among the arguments (lua/fence.lua); 0: nowhere
}

// run runs the calls, which are one operation, in one pipeline and returns their replies in order.
func (s *Store) run(ctx context.Context, op operation, calls []call) []*redis.Cmd {
	if len(calls) == 0 {
		return nil
	}
	start := time.Now()
	cmds := s.evaluate(ctx, s.redis, calls, nil)
	s.metrics.doneAll(op, start, len(cmds), func(i int) error { return cmds[i].Err() })
	return cmds
}

// evaluate runs the calls in one pipeline, and what after adds to it, if anything. A pipelined EVALSHA does not fall back by itself when Redis has
// forgotten the script (restart, failover): those run again with their source.
func (s *Store) evaluate(ctx context.Context, c redis.Cmdable, calls []call, after func(redis.Pipeliner)) []*redis.Cmd {
	cmds := pipeline(ctx, c, calls, (*redis.Script).EvalSha, after)
	var again []call
	var at []int
	for i, c := range cmds {
		if redis.HasErrorPrefix(c.Err(), "NOSCRIPT") {
			again, at = append(again, calls[i]), append(at, i)
		}
	}
	if len(again) > 0 {
		for i, c := range pipeline(ctx, c, again, (*redis.Script).Eval, after) {
			cmds[at[i]] = c
		}
	}
	return cmds
}

type runner func(*redis.Script, context.Context, redis.Scripter, []string, ...any) *redis.Cmd

func pipeline(ctx context.Context, c redis.Cmdable, calls []call, run runner, after func(redis.Pipeliner)) []*redis.Cmd {
	pipe := c.Pipeline()
	cmds := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		cmds[i] = run(c.script, ctx, single{pipe}, c.keys, c.args...)
	}
	if after != nil {
		after(pipe)
	}
	execute(ctx, pipe)
	return cmds
}

// execute runs a pipeline. Each command has its own error then: go-redis gives them none where Redis refused the handshake.
func execute(ctx context.Context, pipe redis.Pipeliner) {
	cmds, err := pipe.Exec(ctx)
	if err == nil || slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Err() != nil }) {
		return
	}
	for _, c := range cmds {
		c.SetErr(err)
	}
}

// one runs one script and returns its reply as a list of at least n values.
func (s *Store) one(ctx context.Context, op operation, c call, n int) ([]any, error) {
	return replyOf(s.run(ctx, op, []call{c})[0], n)
}

// slice is a reply as a list; its error is one of notify's.
func slice(c *redis.Cmd) ([]any, error) {
	v, err := c.Slice()
	if err != nil {
		return nil, classify(err)
	}
	return v, nil
}

func replyOf(c *redis.Cmd, n int) ([]any, error) {
	v, err := slice(c)
	if err != nil {
		return nil, err
	}
	if len(v) < n {
		return nil, fmt.Errorf("script answered %d values, not %d", len(v), n)
	}
	return v, nil
}

// Prefixes of Redis errors that pass by themselves: the server is starting, failing over, or loading, our password is just being replaced, or its disk is full.
var passing = []string{"WRONGPASS", "NOAUTH", "LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN", "MOVED", "ASK", "BUSY", "MISCONF", "NOSCRIPT", "max number of clients"}

// classify makes an error of go-redis one of notify's: ErrUnavailable for what passes, ErrBusy where memory is full.
func classify(err error) error {
	var re redis.Error
	if !errors.As(err, &re) { // the network, the pool, or the caller's context
		return fmt.Errorf("redis: %w: %w", notify.ErrUnavailable, hideAddr(err))
	}
	if redis.HasErrorPrefix(err, "OOM") {
		return fmt.Errorf("redis: %w: out of memory", notify.ErrBusy)
	}
	for _, p := range passing {
		if redis.HasErrorPrefix(err, p) {
			return fmt.Errorf("redis: %w: %w", notify.ErrUnavailable, err)
		}
	}
	return fmt.Errorf("redis: %w", err)
}

// hideAddr keeps the kind of a network error and drops addresses, which are no caller's business.
func hideAddr(err error) error {
	var oe *net.OpError
	if errors.As(err, &oe) {
		return fmt.Errorf("%s: %w", oe.Op, oe.Err)
	}
	return err
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return fmt.Sprint(v)
	}
	return ""
}

func number(v any) int {
	n, _ := v.(int64)
	return int(n)
}
