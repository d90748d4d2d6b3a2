package webpush

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func read(t *testing.T, p Push, most int) text {
	t.Helper()
	b, err := textOf(p, most)
	if err != nil {
		t.Fatal(err)
	}
	var got text
	if err := json.Unmarshal(b, &got); err != nil || len(b) > most || !utf8.Valid(b) {
		t.Fatalf("%d bytes of %s: %v", len(b), b, err)
	}
	return got
}

func TestATextIsCutToFit(t *testing.T) {
	long := func(c string, n int) string { return strings.Repeat(c, n) }
	for _, c := range []struct {
		name  string
		data  map[string]any
		check func(text) bool
	}{
		{"what fits is left alone", map[string]any{"title": "T", "body": "B", "url": "/u", "icon": "/i"}, func(g text) bool { return g == text{"n", "user:a", "c", "T", "B", "/u", "/i"} }},
		{"the icon goes first", map[string]any{"title": "T", "body": long("b", 2000), "url": "/u", "icon": long("i", 2000)},
			func(g text) bool { return g.Icon == "" && g.Body == long("b", 2000) && g.URL == "/u" }},
		{"then the end of the body", map[string]any{"title": "T", "body": long("b", 9000), "url": "/u", "icon": "/i"},
			func(g text) bool {
				return g.Icon == "" && g.Title == "T" && g.URL == "/u" && strings.HasPrefix(g.Body, long("b", 3800)) && strings.HasSuffix(g.Body, "b…")
			}},
		{"then that of the title", map[string]any{"title": long("t", 9000), "body": long("b", 9000), "url": "/u"},
			func(g text) bool {
				return g.Body == "" && strings.HasPrefix(g.Title, long("t", 3800)) && strings.HasSuffix(g.Title, "t…") && g.URL == "/u"
			}},
		{"a URL whole or not at all", map[string]any{"title": long("t", 9000), "url": "/" + long("u", 9000)}, func(g text) bool { return g.Title == "" && g.URL == "" && g.ID == "n" }},
		{"no character is cut in two", map[string]any{"body": long("알", 9000)}, func(g text) bool {
			return strings.Trim(g.Body, "알") == "…" && len(g.Body) > 3800
		}},
		{"what takes more room as JSON", map[string]any{"body": long("\x01\"", 9000)}, func(g text) bool { return len(g.Body) > 800 && len(g.Body) < 1000 }},
		{"what is no text is not told", map[string]any{"title": 7, "body": []string{"x"}, "url": nil, "icon": map[string]string{"a": "b"}},
			func(g text) bool { return g == text{ID: "n", Topic: "user:a", Category: "c"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, err := json.Marshal(c.data)
			if err != nil {
				t.Fatal(err)
			}
			got := read(t, Push{ID: "n", Topic: "user:a", Category: "c", Data: data}, maxText)
			if !c.check(got) {
				t.Errorf("got %.300s", fmt.Sprintf("%+v", got))
			}
		})
	}
}

// The cut is where it must be and not one character earlier.
func TestNoRoomIsLeft(t *testing.T) {
	p := Push{ID: "n", Topic: "user:a", Data: []byte(`{"body":"` + strings.Repeat("b", 500) + `"}`)}
	for most := 60; most < 300; most++ {
		b, err := textOf(p, most)
		if err != nil || len(b) != most {
			t.Errorf("%d bytes of %d: %v", len(b), most, err)
		}
	}
}

func TestDataThatIsNoObjectIsNotTold(t *testing.T) {
	for _, data := range []string{"", "null", "7", `"title"`, `["title"]`} {
		if got := read(t, Push{ID: "n", Topic: "user:a", Data: []byte(data)}, maxText); got != (text{ID: "n", Topic: "user:a"}) {
			t.Errorf("%s: got %+v", data, got)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte(`{"title":"T","body":"B","url":"/u","icon":"/i"}`), 100)
	f.Add([]byte(`{"title":"알","body":"\u0001\ud800"}`), 60)
	f.Fuzz(func(t *testing.T, data []byte, most int) {
		if most < 0 || most > maxText {
			return
		}
		b, err := textOf(Push{ID: "n", Topic: "user:a", Data: data}, most)
		if err == nil && (len(b) > most || !json.Valid(b)) {
			t.Errorf("%d bytes of %d: %s", len(b), most, b)
		}
	})
}
