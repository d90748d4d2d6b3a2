package session_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/go-cmp/cmp"
)

var (
	positions = regexp.MustCompile(`"(-?[a-z2-7]{6}|-[0-9]+)\.([0-9]+)"`)
	secrets   = regexp.MustCompile(`"(session|origin|cursor|time)":"[^"]*"`)
	seconds   = regexp.MustCompile(`"(expires_in|after_ms)":[0-9]+`)
)

// plain makes a frame the same on every run.
func (st *stage) plain(client, frame string) string {
	var f struct {
		Type, Topic, Pos, Cursor string
		Topics                   map[string]string
	}
	if json.Unmarshal([]byte(frame), &f) == nil {
		for t, pos := range f.Topics {
			st.lastPos[client+"."+t] = pos
		}
		if f.Pos != "" && f.Topic != "" {
			st.lastPos[client+"."+f.Topic] = f.Pos
		}
		if f.Cursor != "" {
			st.cursors[client] = f.Cursor
		}
	}
	frame = positions.ReplaceAllStringFunc(frame, func(s string) string {
		m := positions.FindStringSubmatch(s)
		if m[1][0] == '-' {
			return `"EMPTY.` + m[2] + `"`
		}
		if st.names[m[1]] == "" {
			st.names[m[1]] = fmt.Sprint("E", len(st.names)+1)
		}
		return `"` + st.names[m[1]] + "." + m[2] + `"`
	})
	frame = secrets.ReplaceAllStringFunc(frame, func(s string) string {
		name := secrets.FindStringSubmatch(s)[1]
		return `"` + name + `":"` + strings.ToUpper(name) + `"`
	})
	return strings.Replace(seconds.ReplaceAllString(frame, `"$1":SECONDS`), `"after_ms":SECONDS`, `"after_ms":SOON`, 1)
}

var place = regexp.MustCompile(`"topic":"([^"]*)","pos":"(E[0-9]+)\.([0-9]+)"`)

// follows tells whether a frame has the place after that of the frame before it, or is of the next topic.
func follows(before, frame string) bool {
	b, f := place.FindStringSubmatch(before), place.FindStringSubmatch(frame)
	return b != nil && f != nil && (b[1] != f[1] || b[2] == f[2] && atoi(b[3])+1 == atoi(f[3]))
}

// diff is line by line.
func diff(want, got string) string {
	return cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n"))
}

// rank is what frames of one step are sorted by: answers, then topic by topic, then the answers to marks, then the end.
func rank(frame string) string {
	var f struct {
		Type, Topic string
		Changed     *int
		Ref         any
	}
	switch err := json.Unmarshal([]byte(frame), &f); {
	case err != nil:
		return "3"
	case f.Type == "inbox" && f.Ref == nil:
		return "1user:"
	case f.Changed != nil:
		return "2"
	case f.Type == "error" || f.Topic == "":
		return "0"
	case strings.HasPrefix(f.Topic, "user:"):
		return "1user:"
	}
	return "1" + f.Topic
}
