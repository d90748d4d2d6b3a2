package keyspace_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

func TestKeysOfBackendsMeetNoOthers(t *testing.T) {
	m := mustMap(t, 1)
	seen := map[string]string{}
	tenants, gateways := m.Listened()
	index, tick := m.ChangeIndex(0)
	for name, key := range map[string]string{"tenants": tenants, "gateways": gateways, "offline": m.Offline(0), "due": m.Due(0), "index": index, "tick": tick} {
		seen[key] = name
	}
	for _, tenant := range []string{"default", "ev", "evm", "evg", "on", "off", "gw", "i", "h"} {
		groups, watchers := m.Groups(tenant)
		k := m.Backend(0, tenant)
		all := []string{groups, watchers, k.Events, k.Meta, k.Online}
		for _, user := range []string{"ev", "evm", "a"} {
			all = append(all, m.Inbox(stream(tenant, "user:"+user)).WithTerms()...)
		}
		for _, topic := range []string{"ev", "on:ev", "a"} {
			all = append(all, m.Event(stream(tenant, topic)).All()...)
		}
		for _, key := range all {
			if who := seen[key]; who != "" {
				t.Errorf("key %q belongs to %s and to %s", key, who, tenant)
			}
			seen[key] = tenant
		}
	}
}

// On a cluster a mark and what it tells are one script, and so are a tenant's groups and their watchers.
func TestKeysOfBackendsAreOfOneSlot(t *testing.T) {
	m := mustMap(t, 128)
	ann := stream("acme", "user:ann")
	part := m.Partition(ann)
	k := m.Backend(part, "acme")
	tag := tagOf(m.Channel(ann))
	for _, key := range []string{k.Events, k.Meta, k.Online, m.Offline(part)} {
		if tagOf(key) != tag {
			t.Errorf("%s is of another slot than %s", key, m.Channel(ann))
		}
	}
	groups, watchers := m.Groups("acme")
	if tagOf(groups) != tagOf(watchers) {
		t.Errorf("%s and %s", groups, watchers)
	}
	tenants, gateways := m.Listened()
	if tagOf(tenants) != tagOf(gateways) {
		t.Errorf("%s and %s", tenants, gateways)
	}
	homes := map[string]bool{}
	for _, tenant := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		groups, _ := m.Groups(tenant)
		homes[tagOf(groups)] = true
	}
	if len(homes) < 4 {
		t.Errorf("eight tenants are known in %d places", len(homes))
	}
}

func tagOf(key string) string {
	for i := range key {
		if key[i] == '}' {
			return key[:i]
		}
	}
	return key
}

func TestEventIDs(t *testing.T) {
	m := mustMap(t, 128)
	part, entry, ok := m.ParseEventID(keyspace.EventID(17, "1795000000123-4"))
	if part != 17 || entry != "1795000000123-4" || !ok {
		t.Errorf("got %d, %q, %v", part, entry, ok)
	}
	for _, id := range []string{"", "-", "1", "1-2", "1-2-", "128-1-2", "-1-2-3", "01-2-3", "+1-2-3", "1-a-3", "1-2-b", "1-2-3-4", "gap-1-2", "1--3"} {
		if part, entry, ok := m.ParseEventID(id); ok {
			t.Errorf("%q was read as %d, %q", id, part, entry)
		}
	}
}

func TestEventsReadBack(t *testing.T) {
	body, err := keyspace.EncodeBody(&notify.Message{Origin: "p9Xk3vQ0aLr7Tz1e"})
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1_795_000_000_123).UTC()
	for _, c := range []struct {
		fields map[string]string
		want   notify.Event
	}{
		{map[string]string{"b": "0", "t": "r", "u": "~w6k", "i": "n1,n2", "d": string(body)},
			notify.Event{ID: "3-1795000000123-0", Type: notify.EventRead, Time: at, Topic: "user:~w6k", IDs: []string{"n1", "n2"}, Origin: "p9Xk3vQ0aLr7Tz1e"}},
		{map[string]string{"t": "n", "u": "ann", "i": "", "d": ""}, notify.Event{ID: "3-1795000000123-0", Type: notify.EventOnline, Time: at, Topic: "user:ann"}},
		{map[string]string{"t": "g", "u": "", "i": "1795000000000 1795000000100"},
			notify.Event{ID: "3-1795000000123-0", Type: notify.EventGap, Time: at, From: time.UnixMilli(1_795_000_000_000).UTC(), To: time.UnixMilli(1_795_000_000_100).UTC()}},
	} {
		got, err := keyspace.DecodeEvent(3, "1795000000123-0", c.fields)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%v: %s", c.fields, d)
		}
	}
	for _, fields := range []map[string]string{nil, {"t": "rr", "u": "ann"}, {"t": "r", "u": ""}, {"t": "r", "u": "~"}, {"t": "g", "i": "1"}, {"t": "g", "i": "a b"}, {"t": "r", "u": "ann", "d": "\xff"}} {
		if e, err := keyspace.DecodeEvent(3, "1-0", fields); !errors.Is(err, keyspace.ErrCorrupt) {
			t.Errorf("%v was read as %+v, %v", fields, e, err)
		}
	}
	if _, err := keyspace.DecodeEvent(3, "x", map[string]string{"t": "n", "u": "ann"}); !errors.Is(err, keyspace.ErrCorrupt) {
		t.Error("an entry without a time was read")
	}
	if !slices.Equal([]byte("nfcsrg"), []byte{byte(notify.EventOnline), byte(notify.EventOffline), byte(notify.EventSent), byte(notify.EventSeen), byte(notify.EventRead), byte(notify.EventGap)}) {
		t.Error("the letters are in Redis: they do not change")
	}
}
