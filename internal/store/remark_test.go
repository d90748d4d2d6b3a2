package store_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"allim/internal/store"
	"allim/internal/testkit"
)

// withoutItem is a bench whose gateway holds a mark of n2, and the publisher n2: both are lost.
func withoutItem(t *testing.T, o store.Options, hook *sick) *bench {
	b := newBench(t, testkit.Redis(t, "--enable-debug-command", "yes").As, store.Options{})
	c := connect(t, b.as("gateway"))
	if hook != nil {
		hook.key = b.keys.Inbox(ann).Meta
		hook.over.Store(true)
		c.AddHook(hook)
	}
	o.Keys = b.keys
	b.Store = open(b, c, o)
	b.notify(ann, "", "n1")
	b.lose(func() {
		b.notify(ann, "", "n2")
		b.mark(ann, "read", store.Mark{IDs: []string{"n2"}})
	})
	b.touch(b.Store)
	return b
}

func TestAMarkWaitsForItsItemOnce(t *testing.T) {
	t.Parallel()
	b := withoutItem(t, store.Options{}, nil)
	for range 3 {
		behind := b.snapshot(b.keys.Inbox(ann).All()...)
		b.touch(b.Store)
		behind() // what it made of it is lost
		b.newHistory()
		b.touch(b.Store)
	}
	if n := b.Store.Remarks(); n != 1 {
		t.Errorf("%d wait", n)
	}
}

func TestAnOutageIsNoTryOfAMark(t *testing.T) {
	t.Parallel()
	var hook sick
	b := withoutItem(t, store.Options{}, &hook)
	hook.over.Store(false)
	for range 10 {
		b.Store.Remark(b.ctx)
	}
	hook.over.Store(true)
	b.touch(b.publisher) // it brings n2
	b.Store.Remark(b.ctx)
	b.wantList(ann, store.Query{}, "n2/sr n1")
	if n := b.Store.Remarks(); n != 0 {
		t.Errorf("%d wait", n)
	}
}

func TestAMarkWhoseItemIsGoneEnds(t *testing.T) {
	t.Parallel()
	o, r := counted()
	var said bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&said, nil))
	b := withoutItem(t, o, nil)
	for i := range 5 {
		if n := b.Store.Remarks(); n != 1 || givenUp(t, r, "mark") != 0 {
			t.Fatalf("%d wait after %d tries, %v were given up", n, i, givenUp(t, r, "mark"))
		}
		b.Store.Remark(b.ctx)
	}
	b.Store.Remark(b.ctx) // it tells
	if n := b.Store.Remarks(); n != 0 || givenUp(t, r, "mark") != 1 || strings.Count(said.String(), "msg=items_missing marks=1") != 1 {
		t.Errorf("%d wait, %v were given up; the log:\n%s", n, givenUp(t, r, "mark"), said.String())
	}
}

func TestMarksThatWaitForAnItemAreMadeInTheirOrder(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	b.notify(ann, "", "n0")
	b.lose(func() {
		for i := range 10 {
			id := []string{fmt.Sprint("n", i+1)}
			b.notify(ann, "", id[0])
			b.mark(ann, "read", store.Mark{IDs: id})
			b.mark(ann, "delete", store.Mark{IDs: id})
		}
	})
	b.touch(b.Store)
	if n := b.Store.Remarks(); n != 20 {
		t.Fatalf("%d wait", n)
	}
	b.touch(b.publisher) // it brings the items
	b.Store.Remark(b.ctx)
	b.wantList(ann, store.Query{Status: store.All}, "n0")
	if n := b.Store.Remarks(); n != 0 {
		t.Errorf("%d wait", n)
	}
}

func TestTheEndSaysWhichMarksStillWaitForTheirItems(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tries int // before
		away  bool
		want  string
	}{
		"their items are not there":  {0, false, "msg=items_missing marks=1"},
		"it was their last try":      {4, false, "msg=items_missing marks=1"},
		"Redis never answered":       {0, true, "msg=ring_unsettled writes=1"},
		"Redis does not answer more": {1, true, "msg=items_missing marks=1"},
	} {
		t.Run(name, func(t *testing.T) {
			var said safeBuffer
			hook := &sick{}
			b := withoutItem(t, store.Options{Log: slog.New(slog.NewTextHandler(&said, nil))}, hook)
			for range c.tries {
				b.Store.Remark(b.ctx)
			}
			hook.over.Store(!c.away)
			run(b, b.Store)()
			if strings.Count(said.String(), "marks=")+strings.Count(said.String(), "writes=") != 1 || !strings.Contains(said.String(), c.want) {
				t.Errorf("want %s alone; the log:\n%s", c.want, said.String())
			}
		})
	}
}
