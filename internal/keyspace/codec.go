package keyspace

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"allim/pkg/notify"
	allimv1 "allim/proto/allim/v1"
)

// ErrVersion is a pub/sub payload of a schema that this build does not know: read history instead.
var ErrVersion = errors.New("unknown schema version")

// ErrCorrupt is bytes that no Allim wrote.
var ErrCorrupt = errors.New("corrupt bytes")

// An envelope is the text in front of a pub/sub payload, which the scripts write (lua/lib.lua, envelope):
//
//	2\n<epoch>\n<offset>\n<rev>\n<unread>\n<unseen>\n<by>\n<change>\n<ids>\n<body>
//
// <rev> is the offset up to which the counts count, 0 where the stream has none; <by> is category=unread,… ; <ids> are separated by commas; the
// body, to the end, is a StoredMessage.
const envelopeFields = 9

// Ephemeral is the payload of a message that lives only on its channel.
func Ephemeral(id string, body []byte) []byte {
	return append([]byte("2\n\n0\n0\n0\n0\n\ne\n"+id+"\n"), body...)
}

// DecodePayload reads a pub/sub payload. The error is ErrVersion or ErrCorrupt.
func DecodePayload(s notify.Stream, payload string) (*notify.Message, error) {
	version, _, _ := strings.Cut(payload, "\n")
	if version != "2" {
		return nil, fmt.Errorf("payload of %q: %w %.20q", s.Topic, ErrVersion, version)
	}
	f := strings.SplitN(payload, "\n", envelopeFields+1)
	if len(f) != envelopeFields+1 || len(f[7]) != 1 {
		return nil, fmt.Errorf("payload of %q: envelope: %w", s.Topic, ErrCorrupt)
	}
	m, err := DecodeEntry(f[1], f[2], f[7], f[8], []byte(f[9]))
	if err != nil {
		return nil, fmt.Errorf("payload of %q: %w", s.Topic, err)
	}
	if s.Topic.Kind() == notify.KindUser && m.Change != notify.ChangeEphemeral {
		if m.Badge, err = DecodeBadge(f[1], f[3], f[4], f[5], f[6]); err != nil {
			return nil, fmt.Errorf("payload of %q: %w", s.Topic, err)
		}
	}
	return m, nil
}

// DecodeBadge reads counts as the scripts answer them: in text, by as category=unread,…
func DecodeBadge(epoch, rev, unread, unseen, by string) (*notify.Badge, error) {
	o, err1 := strconv.ParseUint(rev, 10, 53)
	u, err2 := strconv.ParseUint(unread, 10, 31)
	n, err3 := strconv.ParseUint(unseen, 10, 31)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("counts: %w", ErrCorrupt)
	}
	b := &notify.Badge{Unread: int(u), Unseen: int(n), Revision: notify.Position{Epoch: epoch, Offset: o}}
	for by != "" {
		var one string
		one, by, _ = strings.Cut(by, ",")
		category, count, ok := strings.Cut(one, "=")
		c, err := strconv.ParseUint(count, 10, 31)
		if !ok || err != nil || category == "" || notify.CheckCategory(category) != nil {
			return nil, fmt.Errorf("counts by category: %w", ErrCorrupt)
		}
		b.By = append(b.By, notify.CategoryCount{Category: category, Unread: int(c)})
	}
	sort.Slice(b.By, func(i, j int) bool { return b.By[i].Category < b.By[j].Category })
	return b, nil
}

// DecodeEntry reads one change as a stream holds it: its epoch and offset, and the fields k, i and d of the entry. The ids of a notification are its own and
// that of the item which it replaces; those of preferences are the muted categories. A change of a later build is a notify.ChangeUnknown.
func DecodeEntry(epoch, offset, change, ids string, body []byte) (*notify.Message, error) {
	o, err := strconv.ParseUint(offset, 10, 53)
	if err != nil || len(change) != 1 {
		return nil, fmt.Errorf("entry %q: %w", offset, ErrCorrupt)
	}
	m := &notify.Message{Change: notify.Change(change[0]), Position: notify.Position{Epoch: epoch, Offset: o}}
	switch m.Change {
	case notify.ChangeNotification:
		m.ID, m.Replaces, _ = strings.Cut(ids, ",")
		if strings.Contains(m.Replaces, ",") {
			return nil, fmt.Errorf("entry %q: ids of a notification: %w", offset, ErrCorrupt)
		}
	case notify.ChangeMessage, notify.ChangeEphemeral, notify.ChangeUpdate, notify.ChangeRetract, notify.ChangeExpire:
		m.ID = ids
	case notify.ChangePreferences:
		if ids != "" { // nothing is muted any more
			m.IDs = strings.Split(ids, ",")
		}
	default:
		if notify.MarkName(m.Change) == "" {
			m.Change = notify.ChangeUnknown // what its ids and its body are is of a later build, too
			return m, nil
		}
		m.IDs = strings.Split(ids, ",")
	}
	return m, decodeBody(m, body)
}

// EncodeBody makes the body of a message: what Redis holds besides its place.
// The error is a string that is not UTF-8.
func EncodeBody(m *notify.Message) ([]byte, error) {
	s := &allimv1.StoredMessage{Event: m.Event, Category: m.Category, Origin: m.Origin, Data: m.Data, Replayed: m.Replayed, Segments: m.Segments,
		Mandatory: m.Terms != nil && m.Terms.Mandatory}
	if !m.Time.IsZero() {
		s.Time = timestamppb.New(m.Time.Truncate(time.Millisecond))
	}
	if !m.ExpiresAt.IsZero() {
		s.ExpiresAt = timestamppb.New(m.ExpiresAt.Truncate(time.Millisecond))
	}
	b, err := proto.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode body of %q: %w", m.ID, err)
	}
	return b, nil
}

// replayed is the field of that name, set (protobuf: field 9, a varint of 1).
var replayed = [...]byte{9 << 3, 1}

// ReplayedBody is the body of a message that is written again: the same, and it says so. body stays as it is.
func ReplayedBody(body []byte) []byte {
	return append(slices.Clip(body), replayed[:]...)
}

func decodeBody(m *notify.Message, body []byte) error {
	var s allimv1.StoredMessage
	if err := proto.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("body: %w", ErrCorrupt)
	}
	m.Event, m.Category, m.Origin, m.Replayed, m.Segments = s.GetEvent(), s.GetCategory(), s.GetOrigin(), s.GetReplayed(), s.GetSegments()
	if len(s.GetData()) > 0 {
		m.Data = s.GetData()
	}
	if s.GetTime() != nil {
		m.Time = s.GetTime().AsTime()
	}
	if s.GetExpiresAt() != nil {
		m.ExpiresAt = s.GetExpiresAt().AsTime()
	}
	if s.GetMandatory() {
		m.Terms = &notify.Terms{Mandatory: true}
	}
	return nil
}
