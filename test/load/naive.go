//go:build linux

package main

import (
	"context"
	"fmt"
	"net/url"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// naive is the baseline: messages are published straight to Redis.
var naive = product{"naive", func(ctx context.Context, o setup) (*served, error) {
	s := &served{dialect: dialect{welcome: []byte(`"type":"welcome"`)}}
	err := s.each(o, "naive", o.program("naive"), func(int) []string {
		return []string{"--redis=redis://" + o.redis + "/0", "--secret=" + secret, "--ping=" + o.ping.String(), fmt.Sprintf("--compress=%t", o.compress)}
	})
	if err != nil {
		_ = s.close() // the first error says why
		return nil, err
	}
	client := redisClient(o.redis)
	s.free = func() { _ = client.Close() }
	s.hello = func(user string, topics []string) hello {
		return hello{path: "/?" + url.Values{"topic": topics}.Encode(), headers: bearer(token(user, nil), o.compress)}
	}
	s.own = func(user string) string { return "user:" + user }
	s.publish = func(ctx context.Context, topic, _ string, data []byte) error {
		return client.Publish(ctx, topic, data).Err()
	}
	s.unicast = func(ctx context.Context, user, id string, data []byte) error {
		return s.publish(ctx, s.own(user), id, data)
	}
	s.stream = func(context.Context) (stream, error) { return nil, errLacks("it has no streamed publish") }
	return s, nil
}}

func redisClient(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: addr, PoolSize: 64, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
}
