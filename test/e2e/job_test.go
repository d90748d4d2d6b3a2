package e2e

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/genproto/googleapis/rpc/code"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

// A job is one notification of many users, which is called again until all have it.
type job struct {
	*testing.T
	users []string
}

// call asks a publisher for the whole of it.
func (j *job) call(b *pods.Backend) ([]*pb.NotifyResult, error) {
	ctx, cancel := context.WithTimeout(b.As(context.Background()), 60*time.Second)
	defer cancel()
	r, err := b.Publisher.Notify(ctx, &pb.NotifyRequest{Id: "sale", To: &pb.Audience{Users: j.users}, Category: "news", Data: []byte(`{"title":"Sale"}`)})
	return r.GetResults(), err
}

// wantOK wants a good result of every user, at the first place of its stream, and is how many had it before.
func (j *job) wantOK(results []*pb.NotifyResult, err error) (duplicates int) {
	j.Helper()
	if err != nil || len(results) != len(j.users) {
		j.Fatalf("%d results of %d users, %v", len(results), len(j.users), err)
	}
	for i, r := range results {
		if r.User != j.users[i] || r.Code != code.Code_OK || offset(r.Pos) != 1 || r.Unread != 1 && !r.Duplicate {
			j.Fatalf("result %d: got %v, want %s at the first place of its stream", i, r, j.users[i])
		}
		if r.Duplicate {
			duplicates++
		}
	}
	return duplicates
}

// wantOne wants each inbox to have the notification and nothing else: all of them as they stand in Redis, and some as a backend sees them.
func (j *job) wantOne(b *pods.Backend, rdb *redis.Client) {
	j.Helper()
	keys := indexes(j.T, rdb)
	if len(keys) != len(j.users) {
		j.Errorf("%d of %d users have an inbox", len(keys), len(j.users))
	}
	all, err := rdb.Pipelined(j.Context(), func(p redis.Pipeliner) error {
		for _, key := range keys {
			p.ZRange(j.Context(), key, 0, -1)
		}
		return nil
	})
	if err != nil {
		j.Fatal(err)
	}
	for i, one := range all {
		if ids := one.(*redis.StringSliceCmd).Val(); !slices.Equal(ids, []string{"sale"}) {
			j.Fatalf("%s has %q", keys[i], ids)
		}
	}
	for i := 0; i < len(j.users); i += len(j.users) / 50 {
		user := j.users[i]
		if ids, c := inboxOf(b, user), b.Counts(user); !slices.Equal(ids, []string{"sale"}) || c.Unread != 1 || c.Unseen != 1 {
			j.Errorf("%s has %q and counts %v", user, ids, c)
		}
	}
}

// indexes are the keys of all inboxes.
func indexes(t *testing.T, rdb *redis.Client) []string {
	t.Helper()
	keys, err := rdb.Keys(t.Context(), "al:{*}:default:i:*:z").Result()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// Ten thousand users in one call, and the publisher is killed when about half of them have it: the same call to another one gives it to the others, says of which
// users they had it, and nobody has it twice. A third call writes nothing. No script of all this is a giant one.
func TestAJobOfTenThousandGoesOnWhereItsPublisherWasKilled(t *testing.T) {
	t.Parallel()
	const many = 10_000
	stage := pods.Start(t, pods.Options{Gateways: -1, Publishers: 2, Redis: testkit.Redis(t, "--slowlog-log-slower-than", "100", "--slowlog-max-len", "10000")})
	rdb := stage.Redis.Client()
	j := &job{T: t, users: names(many, "user-%d")}
	begun, failed := make(chan struct{}), make(chan error, 1)
	first := pods.NewBackend(t, stage.Publishers[0], "default")
	go func() { // ends with its publisher
		close(begun)
		_, err := j.call(first)
		failed <- err
	}()
	<-begun
	empty := rdb.DBSize(t.Context()).Val()
	testkit.Eventually(t, pods.Within, func() bool { return rdb.DBSize(t.Context()).Val() > empty+8*many/3 }, "a good part has it") // eight keys each
	stage.Publishers[0].Kill()
	if err := testkit.Receive(t, pods.Within, failed, "the call fails"); err == nil {
		t.Fatal("it was done before its publisher was killed")
	}
	had := len(indexes(t, rdb))
	if had <= 100 || had >= many-100 {
		t.Fatalf("%d of %d inboxes have it when the publisher is dead, want about half", had, many)
	}

	second := pods.NewBackend(t, stage.Publishers[1], "default")
	results, err := j.call(second)
	if again := j.wantOK(results, err); again < had || again >= many-100 {
		t.Errorf("%d users are said to have had it, %d had it", again, had)
	}
	j.wantOne(second, rdb)
	keys, writes := rdb.DBSize(t.Context()).Val(), written(t, rdb)
	third, err := j.call(second)
	if again := j.wantOK(third, err); again != many {
		t.Errorf("the third call: %d users are said to have had it", again)
	}
	for i := range third {
		if third[i].Pos != results[i].Pos {
			t.Fatalf("%s had it at %s and has it at %s", third[i].User, results[i].Pos, third[i].Pos)
		}
	}
	if now := rdb.DBSize(t.Context()).Val(); now != keys {
		t.Errorf("the third call made %d keys", now-keys)
	}
	if now := written(t, rdb); now != writes {
		t.Errorf("the third call appended %d entries", now-writes)
	}
	t.Logf("%d users had it when the publisher was dead", had)
	wantSmallScripts(t, rdb)
}

// written is how many entries scripts appended to streams so far.
func written(t *testing.T, rdb *redis.Client) int {
	t.Helper()
	text, err := rdb.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = strings.Cut(text, "cmdstat_xadd:calls=")
	text, _, _ = strings.Cut(text, ",")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantSmallScripts wants the scripts that gave many users something to be of a bounded number of users each, by what Redis itself took down. How long they took is
// said, and not judged: this machine does other things as well.
func wantSmallScripts(t *testing.T, rdb *redis.Client) {
	t.Helper()
	const streams, keysOfStream = 64, 12 // of one call at most
	log, err := rdb.SlowLogGet(t.Context(), -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	most := 0
	for _, one := range log {
		if name := strings.ToLower(one.Args[0]); name != "evalsha" && name != "eval" {
			continue
		}
		keys, err := strconv.Atoi(one.Args[2])
		if err != nil {
			t.Fatalf("a script of %q keys", one.Args[2])
		}
		if most = max(most, keys); keys > streams*keysOfStream {
			t.Errorf("a script of %d keys, want those of %d users at most", keys, streams)
		}
		took = append(took, one.Duration)
	}
	slices.Sort(took)
	if len(took) < 50 { // of some 1,500, those that took 0.1 ms
		t.Fatalf("Redis took down %d scripts, want more", len(took))
	}
	t.Logf("%d slow scripts, of %d keys at most; the longest took %v, one of a hundred more than %v", len(took), most, took[len(took)-1], took[len(took)*99/100])
}
