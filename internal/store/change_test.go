package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"allim/internal/store"
	"allim/pkg/notify"
)

func TestUpdatesChangeDataAloneAndOlderVersionsAreRefused(t *testing.T) {
	version := func(n int32) *int32 { return &n }
	const page = "p9Xk3vQ0aLr7Tz1e"
	onEach(t, store.Options{}, func(b *bench) {
		if got := b.update(store.UpdateOf{ID: "n1", Data: []byte("1")}); !errors.Is(got.Err, notify.ErrNotFound) {
			b.Errorf("in no inbox: %+v", got)
		}
		b.notify(ann, "c", "n1")
		b.mark(ann, "read", store.Mark{IDs: []string{"n1"}})
		for i, c := range []struct {
			u       store.UpdateOf
			changed bool
			err     error
			data    string
		}{
			{store.UpdateOf{ID: "n1", Data: []byte("1")}, true, nil, "1"},
			{store.UpdateOf{ID: "n1", Data: []byte("1")}, false, nil, "1"},
			{store.UpdateOf{ID: "n1", Data: []byte("1"), Origin: page}, false, nil, "1"},
			{store.UpdateOf{ID: "n1", Data: []byte("1x"), Origin: page}, true, nil, "1x"},
			{store.UpdateOf{ID: "n1", Data: []byte("1x"), Origin: page[1:]}, false, nil, "1x"},
			{store.UpdateOf{ID: "n1", Data: []byte("1x")}, false, nil, "1x"},
			{store.UpdateOf{ID: "n1", Data: []byte("1x"), Version: version(3)}, true, nil, "1x"}, // so that no older one comes after it
			{store.UpdateOf{ID: "n1", Data: []byte("1"), Version: version(2)}, false, notify.ErrConflict, "1x"},
			{store.UpdateOf{ID: "n1", Data: []byte("2"), Version: version(5)}, true, nil, "2"},
			{store.UpdateOf{ID: "n1", Data: []byte("3"), Version: version(5), Origin: page}, false, nil, "2"},
			{store.UpdateOf{ID: "n1", Data: []byte("3"), Version: version(4)}, false, notify.ErrConflict, "2"},
			{store.UpdateOf{ID: "n1", Data: []byte("4"), Version: version(16)}, true, nil, "4"},
			{store.UpdateOf{ID: "n1", Data: []byte("5")}, true, nil, "5"},
			{store.UpdateOf{ID: "n1", Data: []byte("6"), Version: version(7)}, false, notify.ErrConflict, "5"},
			{store.UpdateOf{ID: "x", Data: []byte("7")}, false, notify.ErrNotFound, "5"},
			{store.UpdateOf{Collapse: "k", Data: []byte("7")}, false, notify.ErrNotFound, "5"},
			{store.UpdateOf{ID: "n1", Collapse: "k"}, false, notify.ErrInvalid, "5"},
			{store.UpdateOf{}, false, notify.ErrInvalid, "5"},
		} {
			got := b.update(c.u)
			if got.Changed != c.changed || !errors.Is(got.Err, c.err) || (got.Position.Offset > 0) != c.changed {
				b.Errorf("update %d: %+v", i, got)
			}
			if p := b.wantList(ann, store.Query{}, "n1/sr"); string(p.Items[0].Data) != c.data || !p.Items[0].Time.Equal(message("x").Time) {
				b.Errorf("update %d: the item is %s of %s", i, p.Items[0].Data, p.Items[0].Time)
			}
		}
		if got := b.events(2); got != strings.TrimSpace(strings.Repeat("p:n1 ", 6)) {
			b.Errorf("the stream says %s", got)
		}
		b.mark(ann, "unread", store.Mark{IDs: []string{"n1"}}) // and its head still has both
		if got := b.update(store.UpdateOf{ID: "n1", Data: []byte("8"), Version: version(3)}); !errors.Is(got.Err, notify.ErrConflict) {
			b.Errorf("behind a mark: %+v", got)
		}
		b.wantList(ann, store.Query{Category: "c"}, "n1/s")
	})
}

func TestWhatIsRetractedDoesNotComeAnyMore(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		if got := b.retract(store.RetractOf{ID: "n0"}); got.Changed {
			b.Errorf("in no inbox: %+v", got)
		}
		b.put(collapsing("n1", "c", "k"))
		if got := b.retract(store.RetractOf{Collapse: "k"}); !got.Changed || got.Position.Offset != 2 {
			b.Errorf("by its key: %+v", got)
		}
		if got := b.retract(store.RetractOf{Collapse: "k"}); got.Changed {
			b.Errorf("once more: %+v", got)
		}
		if got := b.retract(store.RetractOf{ID: "n2"}); got.Changed { // whose notification is still on its way
			b.Errorf("what is not there: %+v", got)
		}
		for _, id := range []string{"n1", "n2"} {
			if r := b.put(notification(id, "c")); !r.Duplicate {
				b.Errorf("%s comes all the same: %+v", id, r)
			}
		}
		b.wantList(ann, store.Query{}, "")
		b.wantBadge(ann, "0/0")
		if got := b.events(0); got != "n:n1 t:n1" {
			b.Errorf("the stream says %s", got)
		}
		if b.real {
			b.wantLifetimes(ann)
		}
	})
}

func (b *bench) mute(categories ...string) (notify.Position, bool) {
	b.Helper()
	_, at, changed, err := b.Store.Preferences(b.ctx, ann, &categories, "")
	if err != nil {
		b.Fatal(err)
	}
	return at, changed
}

func TestAMutedCategoryDoesNotComeIntoTheInbox(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		if _, changed := b.mute(); changed || b.rdb.Exists(b.ctx, b.keys.Inbox(ann).Meta).Val() > 0 {
			b.Error("who mutes nothing has preferences now")
		}
		hears := b.hears()
		if at, changed := b.mute("d", "c", "d"); !changed || at.Offset != 1 {
			b.Errorf("muted at %s: %t", at, changed)
		}
		if got := b.heard(hears); got != "f:c,d 0/0 @1/1" {
			b.Errorf("heard %s", got)
		}
		if _, changed := b.mute("c", "d"); changed {
			b.Error("the same again changed something")
		}
		mandatory := notification("n2", "c")
		mandatory.Terms = &notify.Terms{Mandatory: true}
		for _, c := range []struct {
			m     *notify.Message
			muted bool
		}{{notification("n1", "c"), true}, {mandatory, false}, {notification("n3", "e"), false}, {notification("n4", ""), false}, {message("m1"), false}} {
			if r := b.put(c.m); r.Muted != c.muted || r.Duplicate || (r.Position.Offset == 0) != c.muted {
				b.Errorf("%s: %+v", c.m.ID, r)
			}
		}
		b.wantList(ann, store.Query{}, "n4 n3 n2")
		got, at, _, err := b.Store.Preferences(b.ctx, ann, nil, "")
		if err != nil || cmp.Diff([]string{"c", "d"}, got) != "" || at.Offset != 5 {
			b.Errorf("preferences %v at %s, %v", got, at, err)
		}
		if _, changed := b.mute("d"); !changed {
			b.Error("nothing changed")
		}
		if r := b.put(notification("n1", "c")); r.Muted || r.Duplicate { // it left no trace
			b.Errorf("n1 when it is not muted: %+v", r)
		}
		b.mute()
		if b.rdb.HExists(b.ctx, b.keys.Inbox(ann).Meta, "o").Val() {
			b.Error("nothing is muted, and the stream says that it has terms")
		}
		if got, _, _, _ := b.Store.Preferences(b.ctx, ann, nil, ""); len(got) != 0 {
			b.Errorf("preferences %v", got)
		}
		if b.real {
			b.wantLifetimes(ann)
		}
	})
}
