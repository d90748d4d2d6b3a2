package publish

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/metadata"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
)

const benchTopics = 1000

// benched is a publisher on loopback with a Redis of its own, for benchmarks.
func benched(b *testing.B) (pb.PublisherClient, *redis.Client, context.Context) {
	b.Helper()
	server := testkit.Redis(b)
	rdb, err := store.Connect(store.Connection{URL: server.As("publisher")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = rdb.Close() })
	keys, err := keyspace.NewMap(0)
	if err != nil {
		b.Fatal(err)
	}
	st, err := store.New(store.Options{Redis: rdb, Keys: keys})
	if err != nil {
		b.Fatal(err)
	}
	if err := st.Open(testkit.Context(b, 10*time.Second)); err != nil {
		b.Fatal(err)
	}
	s, err := New(Options{Store: st, Services: services(b), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := listen(b)
	ended := make(chan error, 1)
	go func() { ended <- s.RunGRPC(ctx, l) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	conn := dial(b, l.Addr().String())
	return pb.NewPublisherClient(conn), server.Client(), metadata.AppendToOutgoingContext(b.Context(), "authorization", credentials["all"])
}

var benchData = []byte(`{"text":"` + strings.Repeat("x", 100) + `"}`)

// forms are the classes of messages, each to one of many topics or users.
var forms = map[string]func(i int) *pb.PublishStreamRequest{
	"event": func(i int) *pb.PublishStreamRequest {
		m := event(fmt.Sprint(i), fmt.Sprint("topic-", i%benchTopics))
		m.GetPublish().Data = benchData
		return m
	},
	"one-topic": func(i int) *pb.PublishStreamRequest {
		m := event(fmt.Sprint(i), "topic")
		m.GetPublish().Data = benchData
		return m
	},
	"ephemeral": func(i int) *pb.PublishStreamRequest {
		m := event(fmt.Sprint(i), fmt.Sprint("topic-", i%benchTopics))
		m.GetPublish().Data, m.GetPublish().Mode = benchData, pb.PublishRequest_EPHEMERAL
		return m
	},
	"inbox": func(i int) *pb.PublishStreamRequest {
		m := item(fmt.Sprint(i), fmt.Sprint("user-", i%benchTopics))
		m.GetNotify().Data = benchData
		return m
	},
}

func BenchmarkStream(b *testing.B) {
	for _, form := range []string{"event", "one-topic", "ephemeral", "inbox"} {
		b.Run(form, func(b *testing.B) {
			client, rdb, ctx := benched(b)
			out, err := client.PublishStream(ctx)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			defer spent(b, rdb)()
			b.ResetTimer()
			go func() {
				for i := range b.N {
					if out.Send(forms[form](i)) != nil {
						return // Recv says why
					}
				}
				_ = out.CloseSend()
			}()
			replies, batches := 0, 0
			for {
				got, err := out.Recv()
				if err == io.EOF {
					break
				} else if err != nil {
					b.Fatal(err)
				}
				batches++
				for _, r := range got.Replies {
					if replies++; r.Code != code.Code_OK {
						b.Fatal(r)
					}
				}
			}
			if replies != b.N {
				b.Fatalf("%d replies to %d messages", replies, b.N)
			}
			b.ReportMetric(float64(replies)/float64(batches), "replies/batch")
		})
	}
}

// spent reports what Redis' one thread spent on commands, by its own clock: redis-us/op.
func spent(b *testing.B, rdb *redis.Client) (report func()) {
	b.Helper()
	if err := rdb.ConfigResetStat(context.Background()).Err(); err != nil {
		b.Fatal(err)
	}
	return func() {
		b.StopTimer()
		text, err := rdb.Info(context.Background(), "commandstats").Result()
		if err != nil {
			b.Fatal(err)
		}
		total := 0.0
		for _, command := range []string{"evalsha", "eval", "publish"} {
			_, rest, found := strings.Cut(text, "cmdstat_"+command+":calls=")
			if command == "publish" && strings.Contains(text, "cmdstat_evalsha:") {
				continue // scripts call it, and it is within their time
			}
			var calls, us int
			if _, err := fmt.Sscanf(rest, "%d,usec=%d", &calls, &us); found && err == nil {
				total += float64(us)
			}
		}
		b.ReportMetric(total/float64(b.N), "redis-us/op")
	}
}

// BenchmarkUnary has as many calls at once as a good caller would.
func BenchmarkUnary(b *testing.B) {
	for _, form := range []string{"event", "ephemeral", "inbox"} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprint(form, "/callers=", callers), func(b *testing.B) {
				client, rdb, ctx := benched(b)
				b.ReportAllocs()
				defer spent(b, rdb)()
				b.ResetTimer()
				var all sync.WaitGroup
				for c := range callers {
					all.Go(func() {
						for i := c; i < b.N; i += callers {
							m, err := forms[form](i), error(nil)
							if m.GetPublish() != nil {
								_, err = client.Publish(ctx, m.GetPublish())
							} else {
								_, err = client.Notify(ctx, m.GetNotify())
							}
							if err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
			})
		}
	}
}

// bare is the least that a kept message costs Redis: to be stored, and sent.
var bare = redis.NewScript(`redis.call('XADD', KEYS[1], 'MAXLEN', '=', '100', '*', 'd', ARGV[1])
return redis.call('PUBLISH', KEYS[2], ARGV[1])`)

// BenchmarkBareRedis is XADD and PUBLISH in one script, in pipelines as the store makes them, with nothing in front of it.
func BenchmarkBareRedis(b *testing.B) {
	_, rdb, ctx := benched(b)
	if err := bare.Load(ctx, rdb).Err(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	defer spent(b, rdb)()
	b.ResetTimer()
	var all sync.WaitGroup
	for c := range 8 {
		all.Go(func() {
			for i := c * 32; i < b.N; i += 8 * 32 {
				pipe := rdb.Pipeline()
				for n := i; n < min(i+32, b.N); n++ {
					topic := fmt.Sprint("bare-", n%benchTopics)
					bare.EvalSha(ctx, pipe, []string{topic, topic + "-channel"}, benchData)
				}
				if _, err := pipe.Exec(ctx); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
