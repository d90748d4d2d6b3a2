package session_test

import (
	"regexp"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"allim/internal/store"
	"allim/internal/testkit"
)

// lasting are the keys that are no user's, and how long each has at most: what the schema is, the change index, and the deadlines of partitions, which outlive
// the last of them by 30 days.
var lasting = []struct {
	name *regexp.Regexp
	most time.Duration
}{{regexp.MustCompile(`^al:schema$`), -1}, {regexp.MustCompile(`^al:\{\d+\}:chgn?$`), 10 * time.Minute}, {regexp.MustCompile(`^al:\{\d+\}:due$`), 32 * 24 * time.Hour}}

// Whatever was done, every key has an end that is not too far. Behind it there is nothing but the word on the schema.
func TestEveryKeyEndsAndNothingIsLeftThen(t *testing.T) {
	const retention, operations = 15 * time.Second, 150
	for _, backend := range []string{"redis-server", "embedded"} {
		t.Run(backend, func(t *testing.T) {
			st := newStage(t, backend, store.Inbox{Size: playSize, Retention: retention})
			setRapid(t, "checks", "1")
			b, users := newBed(t, st), 0
			if err := st.writer.Open(st.ctx); err != nil {
				t.Fatal(err)
			}
			for (b.ops < operations || users < 20 && b.ops < 4*operations) && !t.Failed() {
				rapid.Check(t, b.play)
				users = max(users, b.keysEnd(retention*5/4))
			}
			if t.Failed() {
				return
			}
			if users < 20 {
				t.Errorf("users had %d keys only: too little was done", users)
			}
			if st.embedded != nil {
				st.embedded.FastForward(33 * 24 * time.Hour)
			}
			testkit.Eventually(t, 2*retention, func() bool { return b.keysEnd(retention*5/4) == 0 }, "users' keys end")
			if left := st.admin.Keys(st.ctx, "*").Val(); st.embedded != nil && !slices.Equal(left, []string{"al:schema"}) {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// keysEnd wants every key to have an end, a user's within most, and tells how many there are of those.
func (b *bed) keysEnd(most time.Duration) (users int) {
	b.t.Helper()
	keys, err := b.st.admin.Keys(b.st.ctx, "*").Result()
	if err != nil {
		b.t.Fatal(err)
	}
keys:
	for _, key := range keys {
		left := b.st.admin.PTTL(b.st.ctx, key).Val() // -1 ns: it has no end; -2: it is gone meanwhile
		for _, l := range lasting {
			if l.name.MatchString(key) {
				if l.most >= 0 && (left == -1 || left > l.most) {
					b.t.Errorf("%s ends in %v, want within %v", key, left, l.most)
				}
				continue keys
			}
		}
		users++
		if left == -1 || left > most {
			b.t.Errorf("%s ends in %v, want within %v", key, left, most)
		}
	}
	return users
}
