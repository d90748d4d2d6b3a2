package fault

import (
	"encoding/xml"
	"fmt"
	"html"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

const (
	timelineWide = 960
	timelineLeft = 60
	laneHigh     = 96
	laneGap      = 30
	laneTop      = 64
	mostBars     = 240
)

// A lane is something that happened so often in each span of time.
type lane struct {
	name, color string
	at          []time.Duration
}

// timeline draws what happened, as an SVG that needs nothing else: how much came, was acknowledged and got no answer, each a second; when a fault was at
// work; and when everything of the time before its end had come.
func timeline(title string, events []Event) string {
	v := newView(events, allowed{})
	came, acks, none := lane{name: "deliveries a second", color: "#3b6ea5"}, lane{name: "acknowledged a second", color: "#5b8c5a"}, lane{name: "attempts without an answer, a second", color: "#b4513d"}
	back := make([]time.Duration, len(v.windows))
	for _, d := range v.deliveries() {
		came.at = append(came.at, d.at)
		for i, w := range v.windows {
			if d.op.invoked <= w.to {
				back[i] = max(back[i], d.at)
			}
		}
	}
	for i := range events {
		switch e := &events[i]; e.What {
		case acked:
			acks.at = append(acks.at, e.At)
		case tried:
			none.at = append(none.at, e.At)
		}
	}
	from, to := span(append(came.at, acks.at...))
	x := func(at time.Duration) float64 {
		at = min(max(at, from), to)
		return timelineLeft + float64(at-from)/float64(to-from)*(timelineWide-timelineLeft-20)
	}
	lanes := []lane{came, acks, none}
	bottom := laneTop + len(lanes)*(laneHigh+laneGap) - laneGap
	var b strings.Builder
	text := func(x, y float64, color, anchor, s string) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" fill="%s" text-anchor="%s">%s</text>`+"\n", x, y, color, anchor, html.EscapeString(s))
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", timelineWide, bottom+34)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	fmt.Fprintf(&b, `<text x="%d" y="22" font-size="16" fill="#222222">%s</text>`+"\n", timelineLeft, html.EscapeString(title))
	for _, w := range v.windows {
		fmt.Fprintf(&b, `<rect class="fault" x="%.1f" y="%d" width="%.1f" height="%d" fill="#f3e0da"/>`+"\n", x(w.from), laneTop-14, math.Max(x(w.to)-x(w.from), 1), bottom-laneTop+14)
	}
	for i, l := range lanes {
		l.draw(&b, float64(laneTop+i*(laneHigh+laneGap)), from, to, x)
	}
	for i, w := range v.windows {
		text(x(w.from), laneTop-18, "#b4513d", "start", fmt.Sprintf("fault, %.1f s", (min(w.to, to)-w.from).Seconds()))
		if after := back[i] - w.to; back[i] > 0 {
			fmt.Fprintf(&b, `<line class="back" x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#2e5d2d" stroke-dasharray="4 3"/>`+"\n", x(back[i]), x(back[i]), laneTop-14, bottom)
			at, anchor := x(back[i])+4, "start"
			if at > timelineWide*3/4 {
				at, anchor = at-8, "end"
			}
			text(at, laneTop-4, "#2e5d2d", anchor, fmt.Sprintf("all is there, %.1f s after", max(after, 0).Seconds()))
		}
	}
	peril := ""
	for _, e := range v.perils {
		if what := e.What + " " + e.Pod; what != peril { // each stream says what is kept of it
			peril = what
			fmt.Fprintf(&b, `<line class="%s" x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#b4513d"/>`+"\n", e.What, x(e.At), x(e.At), laneTop-14, bottom)
			text(x(e.At)+4, laneTop-4, "#b4513d", "start", map[string]string{killed: e.Pod + " killed", kept: "Redis has lost data"}[e.What])
		}
	}
	step := max(1, int((to-from).Seconds())/10)
	for s := 0; time.Duration(s)*time.Second <= to-from; s += step {
		text(x(from+time.Duration(s)*time.Second), float64(bottom+18), "#666666", "middle", fmt.Sprint(s, " s"))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// draw draws a lane whose top is at y, with its greatest rate.
func (l lane) draw(b *strings.Builder, y float64, from, to time.Duration, x func(time.Duration) float64) {
	bin := max(250*time.Millisecond, (to-from)/mostBars)
	counts := make([]int, int((to-from)/bin)+1)
	most := 1
	for _, at := range l.at {
		if at >= from && at <= to {
			i := int((at - from) / bin)
			counts[i]++
			most = max(most, counts[i])
		}
	}
	fmt.Fprintf(b, `<text x="%d" y="%.1f" fill="%s">%s</text>`+"\n", timelineLeft, y-2, l.color, l.name)
	if len(l.at) > 0 {
		fmt.Fprintf(b, `<text x="%d" y="%.1f" fill="#666666" text-anchor="end">%.0f</text>`+"\n", timelineLeft-6, y+10, float64(most)/bin.Seconds())
	}
	var path strings.Builder
	for i, n := range counts {
		if n > 0 {
			at, high := from+time.Duration(i)*bin, float64(n)/float64(most)*laneHigh
			fmt.Fprintf(&path, "M%.1f %.1fv%.1fh%.1fv%.1fz", x(at), y+laneHigh, -high, x(at+bin)-x(at)-0.4, high)
		}
	}
	fmt.Fprintf(b, `<path d="%s" fill="%s"/>`+"\n", path.String(), l.color)
	fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#999999"/>`+"\n", timelineLeft, timelineWide-20, y+laneHigh, y+laneHigh)
}

// span is from the first of these to the last, and a second at least.
func span(all []time.Duration) (from, to time.Duration) {
	from = math.MaxInt64
	for _, at := range all {
		from, to = min(from, at), max(to, at)
	}
	if len(all) == 0 {
		from = 0
	}
	return from, max(to, from+time.Second)
}

func TestATimelineIsAPictureOfTheLog(t *testing.T) {
	for name, log := range map[string][]Event{"a < b": append(goodLog(), Event{What: killed, Pod: "x"}), "nothing": nil} {
		svg := timeline(name, log)
		found, d := map[string]int{}, xml.NewDecoder(strings.NewReader(svg))
		for {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, svg)
			}
			if e, ok := token.(xml.StartElement); ok {
				for _, a := range e.Attr {
					if a.Name.Local == "class" {
						found[a.Value]++
					}
				}
			}
		}
		want := map[string]int{"fault": 1, "back": 1, killed: 1, kept: 1}
		if log == nil {
			want = map[string]int{}
		}
		for class, n := range want {
			if found[class] != n {
				t.Errorf("%s: got %v, want %v\n%s", name, found, want, svg)
			}
		}
		if len(found) != len(want) || strings.Contains(svg, "NaN") {
			t.Errorf("%s: got %v\n%s", name, found, svg)
		}
	}
}
