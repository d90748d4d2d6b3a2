//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
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
		got = append(got, fmt.Sprintf("%s: %.1f %s %s%s", g.What, g.Got, g.wants(), verdict(g.Passed), note))
	}
	want := []string{
		"idle rss_kib_per_connection against naive: 0.1 ≤ 0.333 reached",
		"fanout p99_ms against naive: 0.5 ≤ 0.6 reached (a longer way)",
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
