//go:build linux

package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// A chart is drawn as SVG, without anybody's help.
type chart struct {
	title, x, y string // what the axes show, with units
	logX        bool
	series      []series
}

// A series is one product's points: of lines by x, of bars in the order of the chart's groups (NaN: none).
type series struct {
	name   string
	points [][2]float64
}

// A plot is a chart that was drawn, and its name among others.
type plot struct{ name, svg string }

const (
	wide, high = 560.0, 300.0
	left, top  = 64.0, 34.0
	right, low = 12.0, 58.0
	plotW      = wide - left - right
	plotH      = high - top - low
)

// colours that people who see few colours can tell apart.
var colours = map[string]string{"allim": "#0b7a75", "naive": "#d98324", "centrifugo": "#7d5ba6"}

func text(b *strings.Builder, x, y float64, anchor, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x, y, anchor, html.EscapeString(s))
}

// frame draws what all charts have: title, axes, legend, and the grid of y from 0 to most.
func (c chart) frame(b *strings.Builder, most float64) {
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" role="img" aria-label="%s">`, wide, high, html.EscapeString(c.title))
	fmt.Fprintf(b, `<text x="%g" y="16" class="title">%s</text>`, left, html.EscapeString(c.title))
	for i := range 5 {
		v := most * float64(i) / 4
		y := top + plotH - plotH*float64(i)/4
		fmt.Fprintf(b, `<path d="M%g %.1fH%g" class="grid"/>`, left, y, wide-right)
		text(b, left-6, y+4, "end", number(v))
	}
	fmt.Fprintf(b, `<text transform="translate(14 %g) rotate(-90)" text-anchor="middle">%s</text>`, top+plotH/2, html.EscapeString(c.y))
	text(b, left+plotW/2, high-22, "middle", c.x)
	at := left
	for _, s := range c.series {
		fmt.Fprintf(b, `<rect x="%.1f" y="%g" width="10" height="10" fill="%s"/>`, at, high-13, colours[s.name])
		text(b, at+14, high-4, "start", s.name)
		at += 30 + 7.5*float64(len(s.name))
	}
}

// lines draws the series as curves.
func (c chart) lines() string {
	var b strings.Builder
	from, to, most := math.Inf(1), math.Inf(-1), 0.0
	scale := func(x float64) float64 {
		if c.logX {
			return math.Log10(max(x, 1e-3))
		}
		return x
	}
	for _, s := range c.series {
		for _, p := range s.points {
			from, to, most = min(from, scale(p[0])), max(to, scale(p[0])), max(most, p[1])
		}
	}
	most = round(most)
	c.frame(&b, most)
	place := func(p [2]float64) (x, y float64) {
		return left + plotW*(scale(p[0])-from)/max(to-from, 1e-9), top + plotH - plotH*p[1]/most
	}
	ticks := map[string]bool{}
	for _, s := range c.series {
		fmt.Fprintf(&b, `<path fill="none" stroke-width="2" stroke="%s" d="`, colours[s.name])
		for i, p := range s.points {
			x, y := place(p)
			fmt.Fprintf(&b, "%c%.1f %.1f", "ML"[min(i, 1)], x, y)
		}
		b.WriteString(`"/>`)
		for i, p := range s.points {
			x, y := place(p)
			few := len(s.points) <= 8
			if few {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x, y, colours[s.name])
			}
			if label := number(p[0]); (few || i%(len(s.points)/5) == 0 && s.name == c.series[0].name) && !ticks[label] {
				ticks[label] = true
				text(&b, min(x, wide-right-12), top+plotH+16, "middle", label)
			}
		}
	}
	b.WriteString("</svg>")
	return b.String()
}

// bars draws groups of bars, one of each series.
func (c chart) bars(groups []string) string {
	var b strings.Builder
	most := 0.0
	for _, s := range c.series {
		for _, p := range s.points {
			if !math.IsNaN(p[1]) {
				most = max(most, p[1])
			}
		}
	}
	most = round(most)
	c.frame(&b, most)
	group := plotW / float64(len(groups))
	bar := min(group*0.8/float64(len(c.series)), 46)
	for i, name := range groups {
		middle := left + group*(float64(i)+0.5)
		text(&b, middle, top+plotH+14+12*float64(i%2*min(len(groups)/5, 1)), "middle", name)
		for k, s := range c.series {
			v := s.points[i][1]
			if math.IsNaN(v) {
				continue
			}
			x, h := middle+bar*(float64(k)-float64(len(c.series))/2), plotH*v/most
			fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s %s: %s</title></rect>`,
				x, top+plotH-h, bar-1, h, colours[s.name], html.EscapeString(s.name), html.EscapeString(name), number(v))
			fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle" class="value">%s</text>`, x+bar/2, top+plotH-h-3, number(v))
		}
	}
	b.WriteString("</svg>")
	return b.String()
}

// round is the next number that a person would end an axis with.
func round(v float64) float64 {
	if v <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10} {
		if v <= step*unit {
			return step * unit
		}
	}
	return 10 * unit
}
