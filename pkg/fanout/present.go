package fanout

import (
	"context"

	"allim/pkg/notify"
)

// Users has Options.Present called again for every user's topic of a partition, each in its loop, in its place among the calls that tell of changes. It returns when that
// is done, or ctx or the hub has ended.
func (h *Hub) Users(ctx context.Context, part int) error {
	for _, l := range h.loops {
		done := l.do(func(x *shard) {
			for _, t := range x.parts[part] {
				if t.kind == notify.KindUser {
					x.tellPresent(t, true)
				}
			}
		})
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// tellPresent says that a user's topic is here, or is not any more.
func (x *shard) tellPresent(t *topic, here bool) {
	if x.opt.Present != nil && t.kind == notify.KindUser {
		x.opt.Present(x.streamOf(t), here)
	}
}
