package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"allim/pkg/notify"
)

// A Command is one frame of a client, checked for its shape; what it names is checked where it is used.
type Command struct {
	Type   string
	Ref    Ref
	Token  string             // auth
	Origin string             // auth, subscribe, marks, preferences
	Topics map[string]*string // subscribe: topic to position, nil for null
	Leave  []string           // unsubscribe
	Cursor *string            // subscribe
	IDs    []string           // marks: exactly one of IDs, Upto, UptoAt and All
	Upto   *string            // a position of the own stream
	UptoAt map[string]string  // topic to position, as the `at` of an inbox frame; at most MaxUpto
	All    bool
	Mute   *[]string // preferences: nil only asks for them, an empty list mutes nothing any more
	Limit  int       // inbox
	Before string
	Status string
	Filter string // category
	Event  string // send
	Data   json.RawMessage
	ID     string
}

// MaxUpto is how many topics an upto names at most: the own stream, 20 segments of a token, and segment:all.
const MaxUpto = 22

// MaxRef is the length of the longest ref, in bytes of JSON.
const MaxRef = 64

// Ignored tells whether a frame of that type is passed over: those of later versions are all named so (the contract's versioning rule).
func Ignored(typ string) bool { return strings.HasPrefix(typ, "allim:") }

// shapes says for each type which fields it takes, and how it looks: the text that a beginner is answered with.
var shapes = map[string]struct {
	fields  string
	example string
}{
	"auth":        {"token origin", `{"type":"auth","token":"<JWT>"}`},
	"subscribe":   {"topics cursor origin", `{"type":"subscribe","topics":{"orders/7":null}}`},
	"unsubscribe": {"topics", `{"type":"unsubscribe","topics":["orders/7"]}`},
	"seen":        {"ids upto all origin", `{"type":"seen","all":true}`},
	"read":        {"ids upto all origin", `{"type":"read","ids":["n1"]}`},
	"unread":      {"ids upto all origin", `{"type":"unread","ids":["n1"]}`},
	"archive":     {"ids upto all origin", `{"type":"archive","ids":["n1"]}`},
	"unarchive":   {"ids upto all origin", `{"type":"unarchive","ids":["n1"]}`},
	"delete":      {"ids upto all origin", `{"type":"delete","ids":["n1"]}`},
	"inbox":       {"limit before status category", `{"type":"inbox","limit":20}`},
	"preferences": {"mute origin", `{"type":"preferences","mute":["mention"]}`},
	"send":        {"event data id", `{"type":"send","event":"chat message","data":"hi"}`},
	"visible":     {"hidden", `{"type":"visible","hidden":true}`},
	"ping":        {"", `{"type":"ping"}`},
}

// Decode reads one text frame of a client. The error is a FieldError that says what was expected; the Command then has Type and Ref as far as they could be read.
func Decode(frame []byte) (Command, error) {
	var c Command
	fields, err := object("frame", `{"type":"subscribe","topics":{"orders/7":null}}`, frame)
	if err != nil {
		return c, err
	}
	if c.Ref, err = ref(fields["ref"]); err != nil {
		return c, err
	}
	if json.Unmarshal(fields["type"], &c.Type) != nil || c.Type == "" {
		return c, bad("type", "one of "+types()+` as in {"type":"ping"}`)
	}
	shape, ok := shapes[c.Type]
	if !ok {
		if Ignored(c.Type) {
			return c, nil
		}
		return c, bad("type", "one of "+types()+fmt.Sprintf(", not %.40q", c.Type))
	}
	return c, c.fill(fields, shape.fields, shape.example)
}

// DecodeAs reads the body of a request whose URL names the command: a frame without its type, which does not count where it is there all the same.
// typ is Known. Errors are as those of Decode.
func DecodeAs(typ string, body []byte) (Command, error) {
	c := Command{Type: typ}
	shape := shapes[typ]
	example := strings.Replace(shape.example, `"type":"`+typ+`",`, "", 1)
	fields, err := object("body", example, body)
	if err != nil {
		return c, err
	}
	if c.Ref, err = ref(fields["ref"]); err != nil {
		return c, err
	}
	return c, c.fill(fields, shape.fields, example)
}

// object is what a text holds, which must be a JSON object in UTF-8.
func object(name, example string, text []byte) (fields map[string]json.RawMessage, err error) {
	if !utf8.Valid(text) {
		return nil, bad(name, "UTF-8")
	}
	if err := json.Unmarshal(text, &fields); err != nil || fields == nil {
		return nil, bad(name, "a JSON object such as "+example+", not "+excerpt(text))
	}
	return fields, nil
}

// fill takes the fields that a command of its type has, and checks that they make one.
func (c *Command) fill(fields map[string]json.RawMessage, takes, example string) error {
	for _, name := range strings.Fields(takes) {
		v, ok := fields[name]
		if !ok {
			continue
		}
		if err := c.set(name, v); err != nil {
			if name == "ids" {
				example = strings.Replace(example, `"all":true`, `"ids":["n1"]`, 1)
			}
			return bad(name, err.Error()+", as in "+example)
		}
	}
	return c.complete(example)
}

func (c *Command) set(name string, v json.RawMessage) error {
	var into any
	want := "a string"
	switch name {
	case "token":
		into = &c.Token
	case "origin":
		into = &c.Origin
	case "before":
		into = &c.Before
	case "status":
		into = &c.Status
	case "category":
		into = &c.Filter
	case "event":
		into = &c.Event
	case "id":
		into = &c.ID
	case "cursor":
		into = &c.Cursor
	case "upto":
		return c.setUpto(v)
	case "data":
		c.Data = v
		return nil
	case "topics":
		into, want = &c.Topics, "an object of topic to position or null"
		if c.Type == "unsubscribe" {
			into, want = &c.Leave, "a list of topics"
		}
	case "ids":
		into, want = &c.IDs, "a list of strings"
	case "all":
		into, want = &c.All, "true"
	case "mute":
		into, want = &c.Mute, "a list of categories"
	case "hidden":
		into, want = new(bool), "true or false"
	case "limit":
		into, want = &c.Limit, "a whole number"
	}
	if err := json.Unmarshal(v, into); err != nil {
		return fmt.Errorf("%s", want)
	}
	return nil
}

// setUpto takes a position, or an object of topic to position.
func (c *Command) setUpto(v json.RawMessage) error {
	var one string
	if json.Unmarshal(v, &one) == nil {
		c.Upto = &one
		return nil
	}
	if err := json.Unmarshal(v, &c.UptoAt); err != nil || len(c.UptoAt) == 0 {
		return fmt.Errorf("a position, or the `at` of an inbox frame")
	}
	if len(c.UptoAt) > MaxUpto {
		return fmt.Errorf("at most %d topics, not %d", MaxUpto, len(c.UptoAt))
	}
	return nil
}

func (c *Command) complete(example string) error {
	switch c.Type {
	case "auth":
		if c.Token == "" {
			return bad("token", "a token, as in "+example)
		}
	case "subscribe":
		if len(c.Topics) == 0 {
			return bad("topics", "at least one topic, as in "+example)
		}
	case "unsubscribe":
		if len(c.Leave) == 0 {
			return bad("topics", "at least one topic, as in "+example)
		}
	case "send":
		if c.Event == "" || c.Data == nil {
			return bad("event", "an event and data, as in "+example)
		}
	}
	if c.Mute != nil && len(*c.Mute) > notify.MaxMute {
		return bad("mute", fmt.Sprintf("at most %d categories, not %d", notify.MaxMute, len(*c.Mute)))
	}
	if notify.Marks[c.Type] != 0 {
		n := 0
		for _, given := range []bool{len(c.IDs) > 0, c.Upto != nil || c.UptoAt != nil, c.All} {
			if given {
				n++
			}
		}
		if n != 1 {
			return bad("ids", "exactly one of ids, upto and all, as in "+example)
		}
	}
	return nil
}

func ref(v json.RawMessage) (Ref, error) {
	v = bytes.TrimSpace(v)
	if len(v) == 0 || string(v) == "null" {
		return nil, nil
	}
	if c := v[0]; len(v) > MaxRef || c != '"' && c != '-' && (c < '0' || c > '9') {
		return nil, bad("ref", fmt.Sprintf("a number or a string of at most %d bytes", MaxRef))
	}
	return Ref(v), nil
}

func types() string {
	names := make([]string, 0, len(shapes))
	for name := range shapes {
		names = append(names, name)
	}
	sort.Strings(names)
	return strings.Join(names, ", ")
}

func bad(field, want string) error { return &notify.FieldError{Field: field, Want: want} }

// excerpt is the beginning of what came, for the eyes of who sent it.
func excerpt(frame []byte) string {
	const most = 40
	s := string(frame)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return string(appendString(nil, s))
}

// Known tells whether a client frame of that type has a meaning here.
func Known(typ string) bool { _, ok := shapes[typ]; return ok }
