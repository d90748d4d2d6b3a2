package publish

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"allim/pkg/notify"
)

// between is what stands between the elements of a list that is known to be JSON.
const between = ", \t\r\n"

// decodeStrings reads a list of strings into m and stops at the first element that is none: a body can hold a million. raw is
// valid JSON and UTF-8. The strings go into m in protobuf's own form, which costs a third of protoreflect.List's Append.
func decodeStrings(m protoreflect.Message, fd protoreflect.FieldDescriptor, raw []byte, field string) error {
	rest := bytes.TrimLeft(raw, between)
	if rest[0] != '[' {
		return &notify.FieldError{Field: field, Want: "a list"}
	}
	var wire []byte
	for i := 0; ; i++ {
		rest = bytes.TrimLeft(rest[1:], between) // after what opened the list, or the quote that ended the last element
		if rest[0] == ']' {
			break
		}
		quoted := quotedOf(rest)
		text, ok := decodeString(quoted)
		if !ok {
			return &notify.FieldError{Field: fmt.Sprintf("%s[%d]", field, i), Want: wantOf(fd)}
		}
		wire = protowire.AppendBytes(protowire.AppendTag(wire, fd.Number(), protowire.BytesType), text)
		rest = rest[len(quoted)-1:]
	}
	if err := (proto.UnmarshalOptions{Merge: true}).Unmarshal(wire, m.Interface()); err != nil {
		return fmt.Errorf("read %s: %w", field, err) // we wrote it: our fault
	}
	return nil
}

// quotedOf is the string that valid JSON begins with; empty where it begins with something else.
func quotedOf(b []byte) []byte {
	if b[0] != '"' {
		return nil
	}
	for i := 1; ; i++ {
		switch b[i] {
		case '\\':
			i++ // it may be a quote
		case '"':
			return b[:i+1]
		}
	}
}

// decodeString takes what protojson takes: encoding/json reads half of a surrogate pair as U+FFFD. The text is valid until quoted
// changes.
func decodeString(quoted []byte) ([]byte, bool) {
	if len(quoted) == 0 {
		return nil, false
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1], true
	}
	var text string
	if json.Unmarshal(quoted, &text) != nil {
		return nil, false
	}
	if strings.ContainsRune(text, '\uFFFD') {
		var exact wrapperspb.StringValue
		if protojson.Unmarshal(quoted, &exact) != nil {
			return nil, false
		}
	}
	return []byte(text), true
}
