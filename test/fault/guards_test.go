package fault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"allim/test/pods"
)

// An edit takes a guard out of one file of ours. The file must have old exactly once, so that the table can not rot; nothing in the product knows of it.
type edit struct{ file, old, new string }

// guards are what a scenario must miss, each as the edits that take it away.
var guards = map[string][]edit{
	"dedupe": {
		{"internal/store/lua/publish.lua", "elseif call('ZADD', DEDUPE, 'NX', off, id) == 0 then\n", "elseif false then\n"},
		{"internal/store/lua/notify.lua", "return dup, new\n", "return false, new\n"}},
	"gap check": {
		{"pkg/fanout/topic.go", "case p.Offset == t.pos.Offset+1 && (same || empty(t.pos.Epoch)):\n", "case p.Offset > t.pos.Offset && (same || empty(t.pos.Epoch)):\n\t\tx.free(t)\n"},
		{"pkg/fanout/catch.go", "case c.pos.Epoch != t.pos.Epoch || o > c.pos.Offset+1:", "case c.pos.Epoch != t.pos.Epoch:"},
		{"pkg/fanout/catch.go", "case o == c.pos.Offset+1:", "case o > c.pos.Offset:"}},
	"history id": {
		{"internal/store/lua/lib.lua", "string.match(info, 'master_replid:(%x+)') or '?'", "'?'"}},
	"change check": {
		{"pkg/fanout/hub.go", "\tdur(&o.CheckEvery, 10*time.Second)\n", "\to.CheckEvery = -1\n"}},
	"replay": {
		{"internal/store/replay.go", "; ok && e.at.Offset <= top {", "; ok && e.at.Offset <= top || true {"}},
	"resync on acknowledgement": {
		{"pkg/fanout/topic.go", "func (x *shard) acked(t *topic) { x.startSync(t, byAck) }", `func (x *shard) acked(t *topic) {
	if !t.known {
		x.startSync(t, byAck)
		return
	}
	x.enter(t, syncs)
	t.sync = &syncing{}
	x.finishSync(t)
}`}},
}

// TestEveryGuardStandsWhereItIsTakenAway runs with the ordinary tests: who moves a guard moves it here, too.
func TestEveryGuardStandsWhereItIsTakenAway(t *testing.T) {
	root, err := pods.Root()
	if err != nil {
		t.Fatal(err)
	}
	for guard, edits := range guards {
		for _, e := range edits {
			text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(e.file)))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), e.old); n != 1 {
				t.Errorf("%s: %s has %d times %q, want it once: the guard has moved, and this table must follow", guard, e.file, n, e.old)
			}
		}
	}
}
