package keyspace

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"allim/pkg/notify"
)

// BackendKeys are a tenant's keys of a partition of what its backends are told. None of them is there where nobody listens.
type BackendKeys struct {
	Events string // STREAM b bytes of all before it, t type, u user as in topics, i ids, d body; of a gap i is "<first ms> <last ms>"
	Meta   string // HASH n most events, y most bytes, b bytes of all so far, f and t first and last ms of those that were left out since the last gap
	Online string // HASH user as in topics to the gateways that have him, "" while it is not told yet that there are none
}

// Backend names a tenant's keys of a partition.
func (m *Map) Backend(p int, tenant string) BackendKeys {
	base := m.base(p) + tenant
	return BackendKeys{Events: base + ":ev", Meta: base + ":evm", Online: base + ":on"}
}

// Groups names what is known of a tenant's groups of watchers, in one partition of each tenant: HASH group to what lua/watcher.lua keeps of it, and ZSET
// <group>\0<watcher> to the end of its lease in ms.
func (m *Map) Groups(tenant string) (groups, watchers string) {
	h := fnv.New64a()
	h.Write([]byte(tenant))
	base := m.base(jump(h.Sum64(), len(m.tags))) + tenant
	return base + ":evg", base + ":evw"
}

// Listened names two ZSETs: the tenants that somebody listens to, until when in ms, and the gateways that tell who is online, by the end of their leases.
func (m *Map) Listened() (tenants, gateways string) { return m.base(0) + "evon", m.base(0) + "gw" }

// Offline names the ZSET of a partition of users who have no gateway any more: Member of their stream to when that is told, in ms.
func (m *Map) Offline(p int) string { return m.base(p) + "off" }

// EventID names an event of a partition: the partition, and the id of its entry.
func EventID(part int, entry string) string { return strconv.Itoa(part) + "-" + entry }

// ParseEventID reads what EventID made; ok is false for anything else.
func (m *Map) ParseEventID(id string) (part int, entry string, ok bool) {
	p, entry, _ := strings.Cut(id, "-")
	part, err := strconv.Atoi(p)
	if err != nil || part < 0 || part >= len(m.tags) || strconv.Itoa(part) != p {
		return 0, "", false
	}
	ms, seq, _ := strings.Cut(entry, "-")
	_, err = strconv.ParseUint(ms, 10, 64)
	_, err2 := strconv.ParseUint(seq, 10, 64)
	return part, entry, err == nil && err2 == nil
}

// DecodeEvent reads an entry of BackendKeys.Events. The error is ErrCorrupt.
func DecodeEvent(part int, entry string, fields map[string]string) (notify.Event, error) {
	e := notify.Event{ID: EventID(part, entry)}
	ms, _, _ := strings.Cut(entry, "-")
	at, err := millis(ms)
	if err != nil || len(fields["t"]) != 1 {
		return e, fmt.Errorf("event %q: %w", entry, ErrCorrupt)
	}
	e.Time, e.Type = at, notify.EventType(fields["t"][0])
	if e.Type == notify.EventGap {
		from, to, _ := strings.Cut(fields["i"], " ")
		var err2 error
		e.From, err = millis(from)
		e.To, err2 = millis(to)
		if err != nil || err2 != nil {
			return e, fmt.Errorf("event %q: gap: %w", entry, ErrCorrupt)
		}
		return e, nil
	}
	e.Topic = notify.TopicOf(notify.KindUser, fields["u"])
	if _, ok := e.Topic.User(); !ok {
		return e, fmt.Errorf("event %q: user: %w", entry, ErrCorrupt)
	}
	if ids := fields["i"]; ids != "" {
		e.IDs = strings.Split(ids, ",")
	}
	var m notify.Message
	if err := decodeBody(&m, []byte(fields["d"])); err != nil {
		return e, fmt.Errorf("event %q: %w", entry, err)
	}
	e.Origin = m.Origin
	return e, nil
}

func millis(text string) (time.Time, error) {
	ms, err := strconv.ParseInt(text, 10, 64)
	return time.UnixMilli(ms).UTC(), err
}
