//go:build linux

// Command load measures what Allim costs and how fast it is, from outside: real gateways, a publisher and a Redis as processes, up to 20,000 WebSocket
// connections in this one. The same run drives a baseline (./naive) and, with -rivals, a Centrifugo, in turn, so that ratios can be quoted. Whatever is
// measured, every connection is held to what it must have got: nothing lost, nothing twice, everything in order; the exit code is 1 where that is
// not so.
//
//	make load                        everything, on a quiet machine
//	go run ./test/load -only fanout  what begins with that name
//
// What the figures mean, and those of the newest run, stand in docs/benchmarks.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.BoolVar(&o.quick, "quick", false, "a tiny run that shows that everything works; its figures say nothing")
	only := flag.String("only", "", "scenarios to play, by the beginnings of their names, with commas between")
	flag.IntVar(&o.rounds, "rounds", 0, "alternating rounds (3; with -quick 1)")
	flag.IntVar(&o.conns, "conns", 0, "connections of the scenarios with many; others have a tenth, growth up to 1.9 times as many (10000; with -quick 100)")
	flag.BoolVar(&o.rivals, "rivals", false, "measure a centrifugo on the PATH, too")
	out := flag.String("out", "", "directory of the report (dist/load of the repository)")
	documented := flag.String("figures", "", "measure nothing: write the figures of this report, a .json, for the documentation (docs/benchmarks)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "load: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if *documented != "" {
		if err := document(*documented, filepath.Join("docs", "benchmarks")); err != nil {
			fmt.Fprintln(os.Stderr, "load:", err)
			os.Exit(1)
		}
		return
	}
	o.command = strings.Join(append([]string{"go run ./test/load"}, os.Args[1:]...), " ")
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := run(ctx, o.defaults(), os.Stderr)
	if err == nil {
		err = finish(r, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// defaults fills in what was not asked for.
func (o options) defaults() options {
	rounds, conns := 3, 10_000
	if o.quick {
		rounds, conns = 1, 100
	}
	if o.rounds <= 0 {
		o.rounds = rounds
	}
	if o.conns <= 0 {
		o.conns = conns
	}
	return o
}

// finish writes the report and prints its table. The error says what was wrong with deliveries.
func finish(r *report, dir string) error {
	if dir == "" {
		dir = filepath.Join(r.root, "dist", "load")
	}
	path, err := r.write(dir)
	if err != nil {
		return err
	}
	r.table(os.Stdout)
	fmt.Printf("\n%s.json and .html\n", path)
	return r.wrong()
}

// products are those of a run.
func (o options) products(r *report) []product {
	list := []product{allim, naive}
	if !o.rivals {
		return list
	}
	if path, err := exec.LookPath("centrifugo"); err != nil {
		r.note("no rival: there is no centrifugo on the PATH")
	} else {
		out, _ := exec.Command(path, "version").Output() // what does not say its version has none in the report
		r.Machine["centrifugo"] = strings.TrimSpace(string(out))
		list = append(list, centrifugo)
	}
	return list
}

// run plays all rounds. Its error is one of the run itself; what was wrong with deliveries stands in the report.
func run(ctx context.Context, o options, say *os.File) (*report, error) {
	root, bin, err := build()
	if err != nil {
		return nil, err
	}
	if o.most, err = mostConnections(); err != nil {
		return nil, err
	}
	r := newReport(o, root)
	if most := o.conns * 19 / 10; most > o.most && !o.quick {
		r.note("no more than %d connections: a process may open %d files (ulimit -Hn), %d connections need %d", o.most, o.most+spareFiles, most, most+spareFiles)
	}
	where := cores{anyCore, anyCore}
	if !o.quick { // which runs beside other tests
		if where, err = pin(); err != nil {
			r.note("%v", err)
		}
	}
	products, scenes := o.products(r), o.scenes()
	if len(scenes) == 0 && !o.wantsScript() {
		return nil, fmt.Errorf("no scenario begins with %s", strings.Join(o.only, " or "))
	}
	fmt.Fprintf(say, "load: about %v\n", o.estimate(scenes, products).Round(time.Second))
	t := o.tempo()
	s := setup{bin: bin, cores: where, ping: t.ping, settle: t.settle}
	for round := 1; round <= o.rounds && ctx.Err() == nil; round++ {
		r.round(ctx, o, s, round, scenes, products, say)
	}
	r.end()
	return r, ctx.Err()
}

// round plays every scene on every product, in the other order every second time: what gets slower as the day goes on is no growth.
func (r *report) round(ctx context.Context, o options, s setup, round int, scenes []scene, products []product, say *os.File) {
	if round%2 == 0 {
		scenes, products = slices.Clone(scenes), slices.Clone(products)
		slices.Reverse(scenes)
		slices.Reverse(products)
	}
	for _, scene := range scenes {
		for _, p := range products {
			if !scene.plays(p, round) || ctx.Err() != nil {
				continue
			}
			fmt.Fprintf(say, "%s round %d: %s, %d connections\n", time.Now().Format(time.TimeOnly), round, p.name, scene.conns)
			r.play(ctx, s, round, scene, p)
		}
	}
	if o.wantsScript() && ctx.Err() == nil {
		lasts := scriptLasts
		if o.quick {
			lasts /= 20
		}
		for _, form := range scripts {
			f, err := script(ctx, s.cores, lasts, form.pipelined)
			f.Scenario, f.Product, f.Round = form.name, redisAlone, round
			r.add(f, err)
		}
	}
}

// play plays one scene on one product.
func (r *report) play(ctx context.Context, o setup, round int, sc scene, p product) {
	o.gateways, o.compress = sc.gateways, sc.compress
	if sc.ping > 0 {
		o.ping = sc.ping
	}
	hears := make([][]int, sc.conns)
	for i := range hears {
		hears[i] = sc.hears(i)
	}
	like := figure{Product: p.name, Round: round, Conns: sc.conns, Topics: sc.topics, Gateways: sc.gateways}
	s, err := open(ctx, p, o, sc.topics, hears)
	if err != nil {
		like.Scenario = sc.steps[len(sc.steps)-1].name
		r.add(like, err)
		return
	}
	for _, step := range sc.steps {
		f, err := step.do(s)
		f.Product, f.Round, f.Conns, f.Topics, f.Gateways = like.Product, like.Round, like.Conns, like.Topics, like.Gateways
		f.Scenario = step.name
		if step.name != "" || err != nil {
			r.add(f, err)
		}
		if lacks := errLacks(""); len(f.Faults) > 0 || err != nil && !errors.As(err, &lacks) {
			break // what follows would find the same once more, or measure a crowd that is not whole
		}
	}
	if err := s.close(); err != nil {
		like.Scenario = sc.steps[len(sc.steps)-1].name
		r.add(like, err)
	}
}
