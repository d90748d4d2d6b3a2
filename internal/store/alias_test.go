package store_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"allim/internal/store"
	"allim/pkg/notify"
)

// An id that is gone names nothing that comes later: a repeated deletion, or a repeated retraction, hits nothing.
func TestAnIDThatIsGoneMeansNothingThatComesWithItsCollapseKey(t *testing.T) {
	for name, goes := range map[string]func(b *bench){
		"deleted":   func(b *bench) { b.mark(ann, "delete", store.Mark{IDs: []string{"n2"}}) },
		"retracted": func(b *bench) { b.retract(store.RetractOf{Collapse: "k"}) },
		"expired": func(b *bench) {
			b.rdb.ZAdd(b.ctx, b.keys.Inbox(ann).Deadlines, zOf(float64(b.now()-1), "x\x00n2"))
			b.rdb.ZAdd(b.ctx, b.keys.Due(b.keys.Partition(ann)), zOf(float64(b.now()-1), "default:i:ann"))
			b.due()
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, store.Options{}, func(b *bench) {
				b.put(collapsing("n1", "c", "k"))
				b.put(collapsing("n2", "c", "k"))
				goes(b)
				b.wantList(ann, store.Query{}, "")
				b.put(collapsing("n3", "c", "k"))
				b.put(collapsing("n4", "c", "k"))
				for _, id := range []string{"n1", "n2"} {
					if got := b.mark(ann, "read", store.Mark{IDs: []string{id}}); got.Changed != 0 || len(got.Unknown) != 1 {
						b.Errorf("a mark of %s: %+v", id, got)
					}
					if got := b.mark(ann, "delete", store.Mark{IDs: []string{id}}); got.Changed != 0 {
						b.Errorf("a deletion of %s: %+v", id, got)
					}
					if got := b.retract(store.RetractOf{ID: id}); got.Changed {
						b.Errorf("a retraction of %s: %+v", id, got)
					}
					if got := b.update(store.UpdateOf{ID: id, Data: []byte("1")}); !errors.Is(got.Err, notify.ErrNotFound) {
						b.Errorf("an update of %s: %+v", id, got)
					}
				}
				if got := b.mark(ann, "read", store.Mark{IDs: []string{"n3"}}); got.Changed != 1 { // whose place n4 has
					b.Errorf("a mark of n3: %+v", got)
				}
				b.wantList(ann, store.Query{}, "n4/sr")
			})
		})
	}
}

func TestAFormerIDMeansTheItemThatTookItsPlace(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.put(collapsing("n1", "c", "k"))
		b.put(collapsing("n2", "c", "k"))
		b.put(collapsing("n3", "c", "k"))
		if got := b.mark(ann, "read", store.Mark{IDs: []string{"n1", "n2", "n3", "x"}}); got.Changed != 1 || cmp.Diff([]string{"x"}, got.Unknown) != "" {
			b.Errorf("a mark by all names: %+v", got)
		}
		b.wantList(ann, store.Query{}, "n3/sr")
		if got := b.update(store.UpdateOf{ID: "n1", Data: []byte(`"new"`)}); got.Err != nil || !got.Changed {
			b.Errorf("an update by a former id: %+v", got)
		}
		if p := b.wantList(ann, store.Query{}, "n3/sr"); string(p.Items[0].Data) != `"new"` {
			b.Errorf("the item is %s", p.Items[0].Data)
		}
		if got := b.retract(store.RetractOf{ID: "n2"}); !got.Changed {
			b.Errorf("a retraction by a former id: %+v", got)
		}
		b.wantList(ann, store.Query{}, "")
		if got := b.events(3); got != "r:n3 p:n3 t:n3" {
			b.Errorf("the stream says %s", got)
		}
		if got := b.mark(ann, "read", store.Mark{IDs: []string{"n1"}}); len(got.Unknown) != 1 {
			b.Errorf("when it is gone: %+v", got)
		}
	})
}
