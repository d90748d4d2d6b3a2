package testkit

import (
	"testing"
	"time"
)

func TestASharedClusterIsEmptyForTheNext(t *testing.T) {
	var first *RedisServer
	for range 2 {
		t.Run("", func(t *testing.T) {
			c, ctx := SharedCluster(t), Context(t, 20*time.Second)
			if first == nil {
				first = c.Nodes[0]
			}
			all := c.Client()
			if n, err := all.DBSize(ctx).Result(); n != 0 || err != nil || c.Nodes[0] != first {
				t.Errorf("got %d keys, %v", n, err)
			}
			for _, key := range []string{"a", "b", "c", "d", "e"} {
				if err := all.Set(ctx, key, "v", 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
