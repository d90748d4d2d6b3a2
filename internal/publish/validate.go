package publish

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"allim/internal/store"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

// A topic or user that stands twice in a call is no mistake: it is written once, and its second result is a duplicate of the
// first, as if the call had been made twice. Callers put audiences together from several lists.

// mistakes gathers what is wrong with a request, each with its field as the request spells it.
type mistakes struct{ errs []error }

func (m *mistakes) add(field string, err error) {
	if err != nil && len(m.errs) < maxViolations {
		m.errs = append(m.errs, notify.InField(field, err))
	}
}

func (m *mistakes) want(ok bool, field, want string, args ...any) {
	if !ok {
		m.add(field, &notify.FieldError{Want: fmt.Sprintf(want, args...)})
	}
}

func (m *mistakes) err() error { return errors.Join(m.errs...) }

// checkPublish returns the topics of a good request, whose data it compacts.
func (l *Limits) checkPublish(r *pb.PublishRequest) ([]notify.Topic, error) {
	var m mistakes
	if r.Id != "" {
		m.add("id", notify.CheckID(r.Id))
	}
	_, known := pb.PublishRequest_Mode_name[int32(r.Mode)]
	m.want(known, "mode", "EVENT or EPHEMERAL")
	m.level(int32(r.Level), pb.PublishRequest_Level_name)
	m.want(r.Mode != pb.PublishRequest_EPHEMERAL || r.Level == pb.PublishRequest_COMMITTED, "level", "COMMITTED: an EPHEMERAL message is not kept")
	m.want(len(r.Topics) > 0 && len(r.Topics) <= l.Topics, "topics", "1 to %d topics, not %d", l.Topics, len(r.Topics))
	var topics []notify.Topic
	if len(r.Topics) <= l.Topics {
		topics = make([]notify.Topic, len(r.Topics))
		for i, name := range r.Topics {
			var err error
			topics[i], err = publishTopic(name, r.Mode)
			m.add(fmt.Sprintf("topics[%d]", i), err)
		}
	}
	m.add("event", notify.CheckEvent(r.Event))
	m.add("origin", notify.CheckOrigin(r.Origin))
	m.data(&r.Data, l.Data)
	return topics, m.err()
}

func publishTopic(name string, mode pb.PublishRequest_Mode) (notify.Topic, error) {
	t, err := notify.ParseTopic(name)
	if err != nil {
		return "", err
	}
	switch t.Kind() {
	case notify.KindEvent:
		return t, nil
	case notify.KindUser:
		if mode != pb.PublishRequest_EPHEMERAL {
			return t, nil
		}
		return "", &notify.FieldError{Want: "an event topic: a user's stream takes no EPHEMERAL messages"}
	}
	return "", &notify.FieldError{Want: "an event topic or user:<id>"}
}

// checkNotify returns the streams' topics of a good request, whose data it compacts. What is to be done with the notification it puts into into.
func (l *Limits) checkNotify(r *pb.NotifyRequest, into *notify.Message, now time.Time) ([]notify.Topic, error) {
	var m mistakes
	m.add("id", notify.CheckID(r.Id))
	m.level(int32(r.Level), pb.NotifyRequest_Level_name)
	topics := l.audience(&m, r.To)
	m.add("category", notify.CheckCategory(r.Category))
	m.terms(r, into, now, l.Retention)
	m.add("origin", notify.CheckOrigin(r.Origin))
	m.data(&r.Data, l.Notification)
	return topics, m.err()
}

// level checks a level. The store's levels have the numbers of the public ones: a test holds them together.
func (m *mistakes) level(level int32, names map[int32]string) {
	_, known := names[level]
	m.want(known, "level", "COMMITTED, REPLICATED or DISK")
}

// data checks data and takes the white space out of it; numbers, escapes and the order of members stay.
func (m *mistakes) data(data *[]byte, limit int) {
	if err := notify.CheckData(*data, limit); err != nil {
		m.add("data", err)
		return
	}
	var b bytes.Buffer
	if err := json.Compact(&b, *data); err != nil { // it was valid a moment ago
		m.add("data", &notify.FieldError{Want: "one JSON value"})
		return
	}
	*data = b.Bytes()
}

// checkUser returns the stream's topic of the user of an Inbox call.
func (m *mistakes) user(user string) notify.Topic {
	t, err := notify.UserTopic(user)
	m.add("user", err)
	return t
}

var statuses = map[pb.ListRequest_Status]store.Status{
	pb.ListRequest_ACTIVE: store.Active, pb.ListRequest_UNREAD: store.Unread, pb.ListRequest_UNSEEN: store.Unseen,
	pb.ListRequest_ARCHIVED: store.Archived, pb.ListRequest_ALL: store.All,
}

func checkList(r *pb.ListRequest) (notify.Topic, store.Query, error) {
	var m mistakes
	t := m.user(r.User)
	m.want(r.Limit >= 0 && r.Limit <= 100, "limit", "1 to 100, or 0 for 50")
	status, known := statuses[r.Status]
	m.want(known, "status", "ACTIVE, UNREAD, UNSEEN, ARCHIVED or ALL")
	m.add("category", notify.CheckCategory(r.Category))
	return t, store.Query{Status: status, Category: r.Category, Limit: int(r.Limit), Before: r.Before}, m.err()
}

var marks = map[pb.MarkRequest_Mark]notify.Change{
	pb.MarkRequest_SEEN: notify.ChangeSeen, pb.MarkRequest_READ: notify.ChangeRead, pb.MarkRequest_UNREAD: notify.ChangeUnread,
	pb.MarkRequest_ARCHIVE: notify.ChangeArchive, pb.MarkRequest_UNARCHIVE: notify.ChangeUnarchive, pb.MarkRequest_DELETE: notify.ChangeDelete,
}

func (l *Limits) checkMark(r *pb.MarkRequest) (notify.Topic, store.Mark, error) {
	var m mistakes
	t := m.user(r.User)
	change, known := marks[r.GetMark()]
	m.want(known && r.Mark != nil, "mark", "SEEN, READ, UNREAD, ARCHIVE, UNARCHIVE or DELETE")
	ways := 0
	for _, given := range []bool{len(r.Ids) > 0, r.Upto != "", r.All} {
		if given {
			ways++
		}
	}
	m.want(ways == 1, "ids", "exactly one of ids, upto and all")
	m.want(len(r.Ids) <= l.MarkIDs, "ids", "at most %d, not %d", l.MarkIDs, len(r.Ids))
	if len(r.Ids) <= l.MarkIDs {
		for i, id := range r.Ids {
			m.add(fmt.Sprintf("ids[%d]", i), notify.CheckID(id))
		}
	}
	mark := store.Mark{Change: change, IDs: r.Ids, All: r.All, Origin: r.Origin}
	if r.Upto != "" {
		p, err := notify.ParsePosition(r.Upto)
		m.add("upto", err)
		mark.Upto = &p
	}
	m.add("origin", notify.CheckOrigin(r.Origin))
	return t, mark, m.err()
}

// checkPreferences returns the categories to mute, sorted, or nil where the request only asks.
func checkPreferences(r *pb.PreferencesRequest) (notify.Topic, *[]string, error) {
	var m mistakes
	t := m.user(r.User)
	m.want(r.Set || len(r.Mute) == 0, "set", "true where mute is given")
	if err := notify.CheckMute(r.Mute); err != nil {
		m.errs = append(m.errs, err) // it knows its field
	}
	m.add("origin", notify.CheckOrigin(r.Origin))
	if !r.Set {
		return t, nil, m.err()
	}
	mute := slices.Compact(slices.Sorted(slices.Values(r.Mute)))
	return t, &mute, m.err()
}
