//go:build linux

package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func some(scenario, product string, round int, value string, v float64) figure {
	return figure{Scenario: scenario, Product: product, Round: round, Conns: 100, Topics: 1, Gateways: 1, Values: map[string]float64{value: v}}
}

func TestMediansAndGatesFollowFromTheRounds(t *testing.T) {
	r := &report{}
	for i, v := range []float64{3, 1, 9} {
		r.add(some(sIdle, allim.name, i+1, memory, v), nil)
		r.add(some(sIdle, naive.name, i+1, memory, 10*v), nil)
	}
	r.add(some(sIdle, allim.name, 4, memory, 1000), errors.New("broken"))
	r.add(some(sInbox, allim.name, 1, perRedisCore, 50), nil)
	r.add(some(sScript, redisAlone, 1, perRedisCore, 100), nil)
	for i, v := range []float64{2.2, 2, 3} {
		for round, times := range []float64{1, 1, 100} {
			f := some(sGrowFan, allim.name, round+1, gatewayCPU, v*times)
			f.Conns = 100 * (i + 1)
			r.add(f, nil)
		}
	}
	for round, name := range []string{allim.name, naive.name, allim.name, naive.name} {
		f := some(sFan, name, round/2+1, p99, float64(5+5*round))
		if round/2 == 1 {
			f.Values[restCore] = 86
		}
		r.add(f, nil)
	}
	for _, name := range []string{allim.name, naive.name} { // nothing but a busy round
		f := some(sFanWide, name, 1, p99, 5)
		f.Values[restCore], f.Values[gatewayCPU] = 86, 5
		r.add(f, nil)
	}
	r.end()
	if m := r.Rows[0].Median; m[allim.name] != 3 || m[naive.name] != 30 || math.Abs(r.Rows[0].Spread[allim.name]-8.0/3) > 1e-9 {
		t.Errorf("got %+v", r.Rows[0])
	}
	var got []string
	for _, g := range r.Gates {
		note := ""
		if strings.Contains(g.Note, "bare PUBLISH") {
			note = " (a longer way)"
		}
		got = append(got, fmt.Sprintf("%s: %.1f %s %s%s", g.What, g.Got, g.wants(), g.verdict(), note))
	}
	want := []string{
		"idle rss_kib_per_connection against naive: 0.1 ≤ 0.333 reached",
		"fanout gateway_cpu_s_per_1m against naive: 0.0 ≤ 0.625 open",
		"fanout-wide gateway_cpu_s_per_1m against naive: 1.0 ≤ 0.714 missed",
		"fanout p99_ms against naive: 0.5 ≤ 0.6 reached (a longer way)",
		"fanout-wide p99_ms against naive: 0.0 ≤ 0.6 open",
		"idle rss_kib_per_connection of allim: 3.0 ≤ 12 reached",
		"inbox-batches per Redis core against script: 0.5 ≥ 0.6 missed",
		"growth-fanout gateway_cpu_s_per_1m: a unit at more connections to one at fewer: 1.5 ≤ 1.2 missed",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := r.wrong(); err == nil || !strings.Contains(err.Error(), "round 4: broken") {
		t.Errorf("got %v", err)
	}
	var table, page strings.Builder
	r.table(&table)
	r.page(&page)
	for _, want := range []string{"flat within 20 %", "100: 2.20", "300: 3.00", "rises", "straight into Redis", "fanout, allim, 100 connections, round 2: the core of generator and Redis was busy to 86 %, so its latencies do not count"} {
		if !strings.Contains(table.String(), want) || !strings.Contains(page.String(), want) {
			t.Errorf("%q is not in the table or not on the page:\n%s", want, &table)
		}
	}
}

func TestACurveIsFlatUnlessALargerOneCostsMore(t *testing.T) {
	for _, c := range []struct {
		costs   []float64
		growth  float64
		verdict string
	}{
		{[]float64{10, 11, 12, 12}, 1.2, "flat"},
		{[]float64{10, 11, 12.1}, 1.21, "rises"},
		{[]float64{20, 10, 13}, 1.3, "rises"}, // cheaper at the first does not pay for it
		{[]float64{20, 12, 10}, 1, "falls"},
		{[]float64{12, 10}, 1, "flat"},
	} {
		one := curve{}
		for i, cost := range c.costs {
			one.Points = append([]point{{Size: 100 * (i + 1), Cost: cost}}, one.Points...) // in any order
		}
		one.judge()
		if math.Abs(one.Growth-c.growth) > 1e-9 || one.Verdict != c.verdict || one.gate().Passed != (c.verdict != "rises") {
			t.Errorf("%v: %s with %v, want %s with %v", c.costs, one.Verdict, one.Growth, c.verdict, c.growth)
		}
	}
}

func TestWhatAProductLacksIsNoFault(t *testing.T) {
	r := &report{}
	r.add(figure{Scenario: sStream, Product: naive.name}, fmt.Errorf("open: %w", errLacks("it has none")))
	var table strings.Builder
	r.table(&table)
	if r.wrong() != nil || !strings.Contains(table.String(), "note: stream, naive: it has none") {
		t.Errorf("got %v\n%s", r.wrong(), &table)
	}
}

func TestARivalIsSpokenToInItsOwnWay(t *testing.T) {
	var config struct {
		Server struct{ Port int } `json:"http_server"`
		Engine struct {
			Redis struct{ Address []string }
		}
	}
	text := centrifugoConfig(setup{redis: "127.0.0.1:1"}, "127.0.0.1:8000")
	if err := json.Unmarshal(text, &config); err != nil || config.Server.Port != 8000 || len(config.Engine.Redis.Address) != 1 {
		t.Errorf("%v: %s", err, text)
	}
	h := centrifugoHello("u1", []string{"load/0"}, false)
	if !strings.HasPrefix(string(h.first), `{"connect":{"token":"`) || h.path != "/connection/websocket" {
		t.Errorf("got %s %s", h.path, h.first)
	}
	c := &crowd{dialect: dialect{welcome: []byte(`"connect":{`), ping: []byte("{}")}, judge: newJudge(2, [][]int{{0, 1}}), members: []member{{fd: -1}}}
	c.judge.publish(0, true)
	c.judge.publish(1, true)
	c.whole(0, []byte(`{"id":1,"connect":{"client":"c","subs":{"load/0":{}}}}`), 0)
	c.whole(0, []byte(`{"push":{"channel":"load/0","pub":{"data":`+string(mark{0, 0, 0}.data(small))+`}}}`+"\n"+
		`{"push":{"channel":"user_u1","pub":{"data":`+string(mark{1, 0, 0}.data(small))+`}}}`), 0)
	if c.judge.lost(); c.welcomed != 1 || c.judge.got != 2 || len(c.judge.faults.kinds) != 0 {
		t.Errorf("welcomed %d, got %d, found %v", c.welcomed, c.judge.got, c.judge.faults.take())
	}
}

func TestFiguresForTheDocumentationAreThoseOfAReport(t *testing.T) {
	dir := t.TempDir()
	r := &report{Command: "go run ./test/load", Machine: map[string]string{"commit": "0123456789ab"}, Rounds: 1}
	for _, conns := range []int{100, 200} {
		f := some(sGrowIdle, allim.name, 1, memory, 9)
		f.Conns = conns
		r.add(f, nil)
	}
	r.add(some(sIdle, allim.name, 1, memory, 9), nil)
	r.add(some(sIdle, naive.name, 1, memory, 36), nil)
	r.end()
	path, err := r.write(dir)
	if err != nil {
		t.Fatal(err)
	}
	docs := filepath.Join(dir, "docs")
	if err := os.MkdirAll(docs, 0o755); err != nil {
		t.Fatal(err)
	}
	older := filepath.Join(docs, "older.svg")
	if err := os.WriteFile(older, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := document(path+".json", docs); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(docs, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"`go run ./test/load`", "commit: 0123456789ab", "| reached | idle rss_kib_per_connection against naive | 0.25 | ≤ 0.333 |", "| 100: 9.00 ±0 % · 200: 9.00 ±0 % |"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %s:\n%s", want, page)
		}
	}
	shown := regexp.MustCompile(`\]\((\S+\.svg)\)`).FindAllStringSubmatch(string(page), -1)
	if len(shown) != 2 {
		t.Errorf("got %d plots, want those of memory beside the other's and as connections grow", len(shown))
	}
	for _, m := range shown {
		svg, err := os.ReadFile(filepath.Join(docs, m[1]))
		if err != nil {
			t.Error(err)
		} else if err := xml.Unmarshal(svg, new(struct{})); err != nil {
			t.Errorf("%s is no XML: %v", m[1], err)
		}
	}
	if _, err := os.Stat(older); !errors.Is(err, os.ErrNotExist) {
		t.Error("the plot of an older run is still there")
	}
	r.Figures[0].Faults = []string{"a message was lost"}
	if err := r.figures(docs); err == nil {
		t.Error("figures of a run in which a message was lost were written")
	}
}
