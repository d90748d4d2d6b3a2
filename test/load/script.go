//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	scriptLasts = 3 * time.Second
	scriptUsers = 10_000
)

// bare is the least that a stored notification needs of Redis: an entry in the user's stream, and a publication.
var bare = redis.NewScript(`redis.call('XADD', KEYS[1], 'MAXLEN', '~', 200, '*', 'd', ARGV[1]) return redis.call('PUBLISH', KEYS[2], ARGV[1])`)

// script measures how many of them a Redis of its own does in a second of its CPU, so many in a pipeline, with one that listens.
func script(ctx context.Context, c cores, lasts time.Duration, pipelined int) (f figure, err error) {
	dir, err := os.MkdirTemp("", "allim-load-")
	if err != nil {
		return f, fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	p, addr, err := startRedis(dir, c)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	client := redisClient(addr)
	defer client.Close()
	if err := bare.Load(ctx, client).Err(); err != nil {
		return f, fmt.Errorf("load script: %w", err)
	}
	feed := client.Subscribe(ctx, "load:bare")
	heard := make(chan struct{})
	go func() { // ends with the feed
		defer close(heard)
		for range feed.Channel() {
		}
	}()
	defer func() { _ = feed.Close(); <-heard }()
	before, err := p.usage()
	if err != nil {
		return f, err
	}
	start, n := time.Now(), 0
	for ; time.Since(start) < lasts; n += pipelined {
		pipe := client.Pipeline()
		for i := range pipelined {
			keys := []string{fmt.Sprintf("load:{%d}", (n+i)%scriptUsers), "load:bare"}
			bare.EvalSha(ctx, pipe, keys, mark{0, uint32(n + i), now()}.data(small))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return f, fmt.Errorf("run script: %w", err)
		}
	}
	took := time.Since(start)
	after, err := p.usage()
	f.Values = map[string]float64{published: float64(n), "writes_per_s": float64(n) / took.Seconds()}
	if used := after - before; used > 0 {
		f.Values[perRedisCore] = float64(n) / used.Seconds()
	}
	return f, err
}
