package testkit

import "github.com/redis/go-redis/v9"

// Passes is the rest of a redis.Hook that has to do with pipelines alone: embed it.
type Passes struct{}

// DialHook lets connections pass.
func (Passes) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook lets single commands pass.
func (Passes) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
