package webpush

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"unicode/utf8"
)

// A text is what a service worker gets. Title and what follows come from the notification's data, where they are strings there.
type text struct {
	ID       string `json:"id"`
	Topic    string `json:"topic"`
	Category string `json:"category,omitempty"`
	Title    string `json:"title,omitempty"`
	Body     string `json:"body,omitempty"`
	URL      string `json:"url,omitempty"`
	Icon     string `json:"icon,omitempty"`
}

// textOf makes the text of a push, of at most so many bytes. What is too long loses its icon first, then the end of its body, then of its title, then its
// URL: a part of a URL leads nowhere.
func textOf(p Push, most int) ([]byte, error) {
	t := text{ID: p.ID, Topic: p.Topic, Category: p.Category}
	fields := map[string]json.RawMessage{}
	if json.Unmarshal(p.Data, &fields) == nil { // else the data is no object, and says nothing to us
		for name, into := range map[string]*string{"title": &t.Title, "body": &t.Body, "url": &t.URL, "icon": &t.Icon} {
			if len(fields[name]) > 0 && fields[name][0] == '"' {
				_ = json.Unmarshal(fields[name], into) // a valid string: the whole was valid
			}
		}
	}
	out, err := t.encode()
	for _, cut := range []struct {
		field *string
		whole bool // or nothing of it
	}{{&t.Icon, true}, {&t.Body, false}, {&t.Title, false}, {&t.URL, true}} {
		if err != nil || len(out) <= most {
			break
		}
		full := *cut.field
		*cut.field = ""
		if out, err = t.encode(); err != nil || len(out) > most || cut.whole {
			continue
		}
		// The longest beginning with which it fits: one byte more of it never makes the whole shorter.
		n := sort.Search(len(full), func(n int) bool {
			*cut.field = beginning(full, n)
			out, err = t.encode()
			return err != nil || len(out) > most
		})
		*cut.field = beginning(full, n-1)
		out, err = t.encode()
	}
	if err == nil && len(out) > most {
		return nil, fmt.Errorf("make push: %d bytes without any text", len(out))
	}
	return out, err
}

// beginning is at most n bytes of s with an ellipsis behind them; "" where there are none.
func beginning(s string, n int) string {
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	if n <= 0 {
		return ""
	}
	return s[:n] + "…"
}

func (t text) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(t); err != nil {
		return nil, fmt.Errorf("make push: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
