//go:build fault

package fault

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"allim/test/pods"
)

// A scenario is one kind of fault. It builds its world, lets people write and read there, breaks something, proves that it was broken, and ends with
// world.finish, which judges.
type scenario struct {
	name  string
	short bool // in the selection that every change runs
	run   func(start)
}

// start makes the world of a scenario.
type start func(options) *world

// short says that this is the selection: fewer repetitions and shorter faults, so that each mechanism is met once.
var short = os.Getenv("ALLIM_FAULT") == "short"

// most is full in a whole run and brief in the short one.
func most[T any](full, brief T) T {
	if short {
		return brief
	}
	return full
}

// A row is what the table at the end says of a scenario.
type row struct {
	name    string
	took    time.Duration
	failed  bool
	sum     summary
	proofs  []string
	picture string // of its timeline, beside the log
}

var scenarios = []scenario{
	{"gateway killed", true, gatewayKilled},
	{"publisher killed", true, publisherKilled},
	{"Redis stands still 3 s", true, redisPaused(3 * time.Second)},
	{"Redis stands still 15 s", false, redisPaused(15 * time.Second)},
	{"Redis stands still 45 s", false, redisPaused(45 * time.Second)},
	{"Redis killed", true, redisKilled},
	{"Redis wiped", true, redisWiped},
	{"black hole", true, blackHole},
	{"resets each second", true, resetsEachSecond},
	{"1 % dropped", true, onePercentDropped},
	{"output buffer full", false, outputBufferFull},
	{"failover that loses", true, failoverLoses},
	{"failover that loses nothing", false, failoverKeeps},
	{"failover after the holder was killed", true, holderKilled},
	{"slots moved, master killed", true, slotsMoved},
	{"readers stopped", true, readersStopped},
	{"away too long", true, awayTooLong},
	{"half-open clients", false, halfOpen},
	{"reconnect storm", true, storm},
	{"rolling restart", true, rolling},
}

// TestNothingIsLostAndNothingComesTwice runs one scenario after the other: they measure time. -run '…/publisher' runs one.
func TestNothingIsLostAndNothingComesTwice(t *testing.T) {
	var rows []*row
	defer func() { writeTable(t, rows) }()
	began := time.Now()
	pods.Program(t, "gateway")
	t.Logf("built in %v", time.Since(began).Round(time.Second))
	for _, s := range scenarios {
		if short && !s.short {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			r := &row{name: s.name}
			rows = append(rows, r)
			began := time.Now()
			defer func() {
				r.took, r.failed = time.Since(began), t.Failed()
				t.Logf("took %v", r.took.Round(time.Second))
			}()
			s.run(func(o options) *world { return newWorld(t, r, "", o) })
		})
	}
}

// writeTable tells what happened, in the test's output and in a file beside the logs.
func writeTable(t *testing.T, rows []*row) {
	var b strings.Builder
	tab := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "scenario\t\ttook\toperations\tdeliveries\tno answer\tduplicates\tephemeral\tresets\treplays\tunknown\tp99\tslowest\tproof")
	for _, r := range rows {
		result := "ok"
		if r.failed {
			result = "FAILED"
		}
		s := r.sum
		fmt.Fprintf(tab, "%s\t%s\t%.0fs\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%dms\t%dms\t%s\n", r.name, result, r.took.Seconds(), s.operations, s.deliveries, s.tried,
			s.duplicates, s.ephemeral, s.resets, s.replays, s.unknown, s.p99.Milliseconds(), s.slowestEver.Milliseconds(), strings.Join(r.proofs, ", "))
	}
	_ = tab.Flush()
	t.Logf("no answer: attempts; p99: of deliveries no fault was near; slowest: after the acknowledgement, or the end of the fault\n%s", b.String())
	dir, err := logs()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "table.md"), []byte(markdown(rows)), 0o600)
	}
	if err != nil {
		t.Errorf("write table: %v", err)
	}
	t.Logf("the same with a picture of each, and all logs: %s", dir)
}

// markdown is the table for who reads it later, with a picture of each scenario.
func markdown(rows []*row) string {
	var b strings.Builder
	b.WriteString("| scenario | | took | operations | deliveries | no answer | resets | came again | unknown | p99 | slowest | what bit |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		result := "ok"
		if r.failed {
			result = "**FAILED**"
		}
		s := r.sum
		fmt.Fprintf(&b, "| [%s](%s) | %s | %.0f s | %d | %d | %d | %d | %d | %d | %d ms | %d ms | %s |\n", r.name, url.PathEscape(r.picture), result, r.took.Seconds(), s.operations, s.deliveries,
			s.tried, s.resets, s.replays, s.unknown, s.p99.Milliseconds(), s.slowestEver.Milliseconds(), strings.Join(r.proofs, ", "))
	}
	return b.String()
}
