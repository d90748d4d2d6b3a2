package keyspace_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

func mustMap(t testing.TB, partitions int) *keyspace.Map {
	t.Helper()
	m, err := keyspace.NewMap(partitions)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func stream(tenant, topic string) notify.Stream {
	return notify.Stream{Tenant: tenant, Topic: notify.Topic(topic)}
}

// What is pinned here is in the Redis of every deployment: it never changes.
func TestKeysArePinned(t *testing.T) {
	m := mustMap(t, 128)
	for want, s := range map[string]notify.Stream{
		"al:{49072}:default:h:orders/7":  stream("default", "orders/7"),
		"al:{17490}:acme:i:~w6k":         stream("acme", "user:~w6k"),
		"al:{11510}:default:r:/orders/7": stream("default", "page:/orders/7"),
		"al:{41961}:default:g:org-7":     stream("default", "segment:org-7"),
	} {
		if got := m.Channel(s); got != want {
			t.Errorf("channel of %v: got %q, want %q", s, got, want)
		}
	}
	if got := m.Event(stream("default", "orders/7")).All(); fmt.Sprint(got) != fmt.Sprint([]string{
		"al:{49072}:default:h:orders/7:m", "al:{49072}:default:h:orders/7:e", "al:{49072}:default:h:orders/7:x"}) {
		t.Errorf("keys of an event topic: %q", got)
	}
	for kind, got := range map[string][]string{"i": m.Inbox(stream("default", "user:ann")).WithTerms(), "g": m.Segment(stream("default", "segment:ann")).WithTerms()} {
		letters := "m e x z h u n a c d k"
		if kind == "g" {
			letters = "m e x z h m m m m d k" // of the same places
		}
		for i, letter := range strings.Fields(letters) {
			_, rest, _ := strings.Cut(got[i], "}")
			if want := ":default:" + kind + ":ann:" + letter; rest != want {
				t.Errorf("key %d of kind %s: got %q, want %q", i+1, kind, rest, want)
			}
		}
	}
	if got := m.Audience(stream("default", "user:ann")).All(); !slices.Equal(got, []string{m.Inbox(stream("default", "user:ann")).Meta,
		strings.TrimSuffix(m.Inbox(stream("default", "user:ann")).Meta, "m") + "g", strings.TrimSuffix(m.Inbox(stream("default", "user:ann")).Meta, "m") + "q"}) {
		t.Errorf("keys of what a user is a member of: %q", got)
	}
	if got := m.Due(m.Partition(stream("default", "orders/7"))); got != "al:{49072}:due" {
		t.Errorf("deadlines of a partition: %q", got)
	}
}

// slot is Redis' own CLUSTER KEYSLOT, written from the specification's check value: CRC16 of "123456789" is 0x31C3.
func TestPartitionsSpreadEvenlyOverAnyNumberOfNodes(t *testing.T) {
	if got := keyspace.Slot("123456789"); got != 0x31C3%16384 {
		t.Fatalf("slot of the specification's example: %#x", got)
	}
	for _, partitions := range []int{1, 3, 128, 1000} {
		m := mustMap(t, partitions)
		for nodes := 1; nodes <= min(partitions, 40); nodes++ {
			count := make([]int, nodes)
			for p := range partitions {
				tag := strings.TrimSuffix(strings.TrimPrefix(m.Probe(p, ""), "al:{"), "}:probe:")
				count[int(keyspace.Slot(tag))*nodes/16384]++
			}
			for n, c := range count {
				if lo, hi := partitions/nodes-1, partitions/nodes+2; c < lo || c > hi {
					t.Errorf("%d partitions on %d nodes: node %d has %d", partitions, nodes, n, c)
				}
			}
		}
	}
}

func TestStreamsSpreadOverPartitions(t *testing.T) {
	m := mustMap(t, 128)
	count := make([]int, 128)
	const n = 128 * 200
	for i := range n {
		count[m.Partition(stream("default", fmt.Sprint("user:", i)))]++
	}
	for p, c := range count {
		if c < 100 || c > 320 {
			t.Errorf("partition %d has %d of %d streams", p, c, n)
		}
	}
	if m.Partition(stream("a", "x")) == m.Partition(stream("b", "x")) && m.Partition(stream("a", "y")) == m.Partition(stream("b", "y")) &&
		m.Partition(stream("a", "z")) == m.Partition(stream("b", "z")) {
		t.Error("the tenant does not count")
	}
}

func TestKeysOfDifferentStreamsNeverMeet(t *testing.T) {
	m := mustMap(t, 1)
	seen := map[string]string{}
	for _, tenant := range []string{"default", "h", "chg", "probe", "ev", "due"} {
		for _, topic := range []string{"a", "a:m", "a:e", "m", "user:a", "user:m", "page:a:m", "page:a", "segment:a", "h:a", "i:a", "i:a:m"} {
			s := stream(tenant, topic)
			keys := m.Inbox(s).WithTerms()
			index, tick := m.ChangeIndex(0)
			if s.Topic.Kind() == notify.KindEvent {
				keys = m.Event(s).All()
			}
			for _, k := range append(keys, index+" of index", tick+" of tick") {
				if who := seen[k]; who != "" && !strings.Contains(k, " of ") {
					t.Errorf("key %q belongs to %s and to %v", k, who, s)
				}
				seen[k] = fmt.Sprint(s)
			}
		}
	}
	if who := seen[m.Due(0)]; who != "" {
		t.Errorf("key %q belongs to %s and to its partition", m.Due(0), who)
	}
}

func TestChannelsParseBack(t *testing.T) {
	m := mustMap(t, 128)
	for _, s := range []notify.Stream{stream("default", "a"), stream("x-1", "page:/a:b"), stream("default", "user:~w6k"), stream("default", "segment:all")} {
		if got, ok := m.ParseChannel(m.Channel(s)); !ok || got != s {
			t.Errorf("%v came back as %v, %v", s, got, ok)
		}
	}
	for _, ch := range []string{"", "al:{49072}:default:h:", "al:{1}:default:h:orders/7", "al:{49072}:default:h:orders/8", "al:{49072}:probe:x",
		"al:{49072}:Default:h:orders/7", "al:{49072}:default:z:orders/7", "xx:{49072}:default:h:orders/7"} {
		if s, ok := m.ParseChannel(ch); ok {
			t.Errorf("%q parsed as %v", ch, s)
		}
	}
}

func TestMapRefusesWrongPartitionCounts(t *testing.T) {
	for _, n := range []int{-1, keyspace.MaxPartitions + 1} {
		if _, err := keyspace.NewMap(n); err == nil {
			t.Errorf("%d partitions were taken", n)
		}
	}
}

func TestMembersParseBack(t *testing.T) {
	for _, s := range []notify.Stream{stream("acme", "orders"), stream("acme", "a:b:c"), stream("default", "user:~w6k"), stream("x-1", "segment:org-7"), stream("default", "page:/orders/7")} {
		if got, ok := keyspace.ParseMember(keyspace.Member(s)); !ok || got != s {
			t.Errorf("%v came back as %v, %v", s, got, ok)
		}
	}
	for _, bad := range []string{"", "acme", "acme:", "acme:h", "acme:h:", ":h:x", "acme:hx:y", "acme:i:a/b", "acme:z:x"} {
		if s, ok := keyspace.ParseMember(bad); ok {
			t.Errorf("%q parsed as %v", bad, s)
		}
	}
}
