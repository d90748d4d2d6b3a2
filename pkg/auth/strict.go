package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// An object is a JSON object by the exact names of its members. encoding/json takes {"sub":"a","SUB":"admin"} for an admin;
// here a name has one spelling and stands once.
type object map[string]json.RawMessage

// parseObject reads one JSON object in UTF-8. A name that stands twice is refused, and so is one that differs from a name in
// read only in case: whoever wrote it means something else than what we would read.
func parseObject(text []byte, read ...string) (object, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	o := object{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errors.New("not a JSON object")
		}
		if _, twice := o[name]; twice {
			return nil, errors.New("a name stands twice")
		}
		for _, r := range read {
			if name != r && strings.EqualFold(name, r) {
				return nil, fmt.Errorf("%q in another case", r)
			}
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, errors.New("not a JSON object")
		}
		o[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("not a JSON object")
	}
	if len(bytes.TrimSpace(text[dec.InputOffset():])) > 0 {
		return nil, errors.New("more than one JSON value")
	}
	return o, nil
}

// text is the string called name; "" when it is absent.
func (o object) text(name string) (string, error) {
	raw, ok := o[name]
	if !ok {
		return "", nil
	}
	s, ok := text(raw)
	if !ok {
		return "", fmt.Errorf("%s: expected a string", name)
	}
	return s, nil
}

// text reads a JSON string. The replacement character is refused: encoding/json puts it for half a surrogate pair, and two
// different names must not become one.
func text(raw json.RawMessage) (string, bool) {
	var s string
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil || strings.ContainsRune(s, utf8.RuneError) {
		return "", false
	}
	return s, true
}

// texts is the array of strings called name; nil when it is absent.
func (o object) texts(name string) ([]string, error) {
	raw, ok := o[name]
	if !ok {
		return nil, nil
	}
	var list []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &list) != nil {
		return nil, fmt.Errorf("%s: expected an array of strings", name)
	}
	all := make([]string, len(list))
	for i, r := range list {
		if all[i], ok = text(r); !ok {
			return nil, fmt.Errorf("%s[%d]: expected a string", name, i)
		}
	}
	return all, nil
}

// endOfTime is the last second that a claim can name: 9999-12-31T23:59:59Z.
const endOfTime = 253402300799

// time is the NumericDate (RFC 7519, section 2) called name; the zero time when it is absent.
func (o object) time(name string) (time.Time, error) {
	raw, ok := o[name]
	if !ok {
		return time.Time{}, nil
	}
	sec, err := strconv.ParseFloat(string(raw), 64) // JSON has no NaN, no hex, no infinity; "1" in quotes does not parse
	if err != nil || sec < 0 || sec > endOfTime {
		return time.Time{}, fmt.Errorf("%s: expected seconds since 1970, before the year 10000", name)
	}
	whole, part := math.Modf(sec)
	return time.Unix(int64(whole), int64(part*1e9)), nil
}
