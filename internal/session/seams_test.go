package session_test

import (
	"time"

	"allim/internal/session"
	"allim/internal/testkit"
)

// kept is a key as a replica that was behind has it.
type kept struct {
	value string
	ttl   time.Duration
}

// seam does the steps in which something ends or breaks; false: it is none of them.
func (st *stage) seam(f []string) bool {
	st.t.Helper()
	switch f[0] {
	case "degrade", "restore":
		st.degraded.Store(f[0] == "degrade")
	case "shutdown":
		sessions := st.sessions
		if len(f) > 1 {
			sessions = st.second
		}
		st.shutdown[sessions]()
		testkit.Eventually(st.t, 10*time.Second, func() bool { return session.Closed(sessions) }, "the shutdown")
	case "late":
		again := time.Duration(0)
		if len(f) > 2 {
			again = time.Duration(atoi(f[2])) * time.Second
		}
		session.Late(st.clients[f[1]].s, again)
	case "lose":
		st.lost = st.snapshot()
	case "failover":
		st.failover()
	default:
		return false
	}
	return true
}

func (st *stage) snapshot() map[string]kept {
	st.t.Helper()
	all := map[string]kept{}
	keys, err := st.admin.Keys(st.ctx, "*").Result()
	if err != nil {
		st.t.Fatal(err)
	}
	for _, k := range keys {
		value, err := st.admin.Dump(st.ctx, k).Result()
		if err != nil {
			st.t.Fatal(err)
		}
		all[k] = kept{value, max(0, st.admin.PTTL(st.ctx, k).Val())} // none is -1 ns
	}
	return all
}

// failover is what a promotion is to its clients: the keys that the replica has, another history id, and connections that end.
func (st *stage) failover() {
	st.t.Helper()
	if st.lost != nil {
		st.admin.FlushAll(st.ctx)
		for k, was := range st.lost {
			if err := st.admin.RestoreReplace(st.ctx, k, was.ttl, was.value).Err(); err != nil {
				st.t.Fatal(err)
			}
		}
		st.lost = nil
	}
	if err := st.admin.Do(st.ctx, "DEBUG", "CHANGE-REPL-ID").Err(); err != nil {
		st.t.Fatal(err)
	}
	before := st.hub.Stats().Generation
	if err := st.admin.Do(st.ctx, "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil {
		st.t.Fatal(err)
	}
	testkit.Eventually(st.t, 10*time.Second, func() bool { s := st.hub.Stats(); return s.Generation > before && s.LinkUp && st.hub.Ready() }, "the next link")
}
