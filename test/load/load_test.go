//go:build linux

package main

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"allim/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A tiny run of everything: no figure is looked at, but that each is there and that nothing was lost.
func TestAQuickRunLosesNothingAndItsReportIsWhole(t *testing.T) {
	o := options{quick: true}.defaults()
	r, err := run(context.Background(), o, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.wrong(); err != nil {
		t.Error(err)
	}
	path, err := r.write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var written report
	if err := json.Unmarshal(text, &written); err != nil {
		t.Fatal(err)
	}
	played := func(scenario, product string) *figure {
		i := slices.IndexFunc(written.Figures, func(f figure) bool { return f.Scenario == scenario && f.Product == product })
		if i < 0 {
			return nil
		}
		return &written.Figures[i]
	}
	for _, scenario := range scenarios {
		for _, p := range []string{allim.name, naive.name} {
			if scenario == sScript || scenario == sScriptOne {
				p = redisAlone
			}
			f := played(scenario, p)
			switch {
			case scenario == sGrowIdle: // not in a tiny run
			case f == nil:
				t.Errorf("%s was not played on %s", scenario, p)
			case p == naive.name && f.Note != "": // which has no stream, and no call for many
			case f.Values == nil || f.Note != "":
				t.Errorf("%s of %s: values %v, note %q", scenario, p, f.Values, f.Note)
			case strings.Contains(scenario, "fan") && (f.Values[deliveries] < float64(f.Conns) || len(f.Curve) == 0):
				t.Errorf("%s of %s: %v deliveries to %d connections, %d points of latency", scenario, p, f.Values[deliveries], f.Conns, len(f.Curve))
			}
		}
	}
	if f := played(sIdle, naive.name); f == nil || f.Values[memory] <= 0 {
		t.Errorf("no memory of an idle connection: %+v", f)
	}
	wantPage(t, path+".html")
}

// wantPage wants pictures in a page that needs nothing else, each of them well-formed.
func wantPage(t *testing.T, path string) {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, outside := range []string{"src=", "href=", "@import", "url("} {
		if strings.Contains(string(page), outside) {
			t.Errorf("the page needs something else: %s", outside)
		}
	}
	rest, drawn := string(page), 0
	for {
		i := strings.Index(rest, "<svg")
		if i < 0 {
			break
		}
		end := strings.Index(rest[i:], "</svg>")
		if end < 0 {
			t.Fatal("a picture has no end")
		}
		picture := rest[i : i+end+len("</svg>")]
		if err := xml.Unmarshal([]byte(picture), new(struct{})); err != nil || strings.Contains(picture, "NaN") || strings.Contains(picture, "Inf") {
			t.Errorf("a picture is broken: %v\n%s", err, picture)
		}
		rest, drawn = rest[i+end:], drawn+1
	}
	if drawn < 15 {
		t.Errorf("the page has %d pictures", drawn)
	}
}

func TestOnlyWhatWasAskedForIsPlayedAndAllArriveAllTheSame(t *testing.T) {
	o := options{conns: 1000, most: 500, rounds: 3, only: []string{"two-gateways-f"}}
	all := o.scenes()
	if len(all) != 1 || len(all[0].steps) != 2 || all[0].steps[0].name != "" || all[0].steps[1].name != sTwoFan {
		t.Errorf("got %+v", all)
	}
	if all[0].conns != 500 {
		t.Errorf("got %d connections, want the 500 that the machine allows", all[0].conns)
	}
	if !(options{only: []string{"inbox"}}).wantsScript() || (options{only: []string{"idle"}}).wantsScript() {
		t.Error("the bare script belongs to what is compared with it, alone")
	}
}

func TestAWholeRunTakesNoLongerThanItMay(t *testing.T) {
	o := options{most: 19_200}.defaults()
	products := []product{allim, naive}
	if got := o.estimate(o.scenes(), products).Minutes(); got > 25 {
		t.Errorf("about %.1f minutes, want at most 25", got)
	}
	played := map[string]int{}
	for _, s := range o.scenes() {
		for round := 1; round <= o.rounds; round++ {
			for _, p := range products {
				if s.plays(p, round) {
					played[fmt.Sprintf("%s %t %t", p.name, s.grow, s.alone)]++
				}
			}
		}
	}
	scenes := func(grow, alone bool) (n int) {
		for _, s := range o.scenes() {
			if s.grow == grow && s.alone == alone {
				n++
			}
		}
		return n
	}
	for what, want := range map[string]int{
		"allim false false": 3 * scenes(false, false), "naive false false": 3 * scenes(false, false), // side by side
		"allim true false": 3 * scenes(true, false), "naive true false": scenes(true, false), // ours is held to 20 % and needs a median
		"allim true true": 3 * scenes(true, true), "naive true true": 0,
	} {
		if played[what] != want || want == 0 && what != "naive true true" {
			t.Errorf("%s: played %d times, want %d", what, played[what], want)
		}
	}
}

// The runtime of what is measured has its defaults, whatever the shell of whoever measures has set.
func TestNothingTunesWhatIsMeasured(t *testing.T) {
	t.Setenv("GOGC", "off")
	t.Setenv("GOMEMLIMIT", "1MiB")
	t.Setenv("ALLIM_KEPT", "yes")
	p, err := launch(t.TempDir(), "it", anyCore, "/bin/sh", "-c", "env; echo end; exec sleep 60")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, startWithin, func() bool { return strings.Contains(string(p.text()), "end\n") }, "it says what it has")
	if env := string(p.text()); strings.Contains(env, "GOGC") || strings.Contains(env, "GOMEMLIMIT") || !strings.Contains(env, "ALLIM_KEPT=yes") {
		t.Errorf("it has\n%s", env)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
}

func TestARivalThatIsNotThereIsMissedAloud(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	r := &report{Machine: map[string]string{}}
	if got := (options{rivals: true}).products(r); len(got) != 2 {
		t.Errorf("%d products without a rival on the PATH", len(got))
	}
	var table, page strings.Builder
	r.table(&table)
	r.page(&page)
	for _, text := range []string{table.String(), page.String()} {
		if !strings.Contains(text, "no rival: there is no centrifugo on the PATH") {
			t.Errorf("it does not say that there is no rival:\n%s", text)
		}
	}
	if err := os.WriteFile(dir+"/centrifugo", []byte("#!/bin/sh\necho v0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r = &report{Machine: map[string]string{}}
	if got := (options{rivals: true}).products(r); len(got) != 3 || len(r.Notes) != 0 || r.Machine["centrifugo"] != "v0" {
		t.Errorf("with one: %d products, notes %q, version %q", len(got), r.Notes, r.Machine["centrifugo"])
	}
}

func TestEveryTopicBesideTheHotOneHasAListener(t *testing.T) {
	for _, topics := range []int{1, 7, 90, 1000} {
		heard := map[int]int{}
		hears := beside(10, 100, topics)
		for i := range 100 {
			list := hears(i)
			if len(list) > 80 {
				t.Errorf("connection %d hears %d topics", i, len(list))
			}
			for _, k := range list {
				heard[k]++
			}
		}
		if len(heard) != topics+1 || heard[0] != 10 {
			t.Errorf("%d topics: %d are heard, the hot one by %d", topics, len(heard), heard[0])
		}
	}
}

func TestAProgramStartsOnItsCore(t *testing.T) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for core := range 1024 {
		if !all.IsSet(core) {
			continue
		}
		p, err := launch(t.TempDir(), "sleeper", core, "sleep", "60")
		if err != nil {
			t.Fatal(err)
		}
		var its unix.CPUSet
		if err := unix.SchedGetaffinity(p.cmd.Process.Pid, &its); err != nil || its != *set(core) {
			t.Errorf("on core %d: %v, %d cores", core, err, its.Count())
		}
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatAProgramSaysAtItsEndCounts(t *testing.T) {
	for _, c := range []struct{ name, script, want string }{
		{"well", `sleep 60`, ""},
		{"an error in its log", `echo '{"level":"ERROR","msg":"broken"}'; exec sleep 60`, "broken"},
		{"of itself", `exit 3`, "ended by itself: exit status 3"},
	} {
		p, err := launch(t.TempDir(), "it", anyCore, "/bin/sh", "-c", c.script)
		if err != nil {
			t.Fatal(err)
		}
		if c.want != "" {
			testkit.Eventually(t, startWithin, func() bool { return p.ended() || strings.Contains(string(p.text()), c.want) }, c.name)
		}
		if err := p.stop(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}
