package publish

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"allim/pkg/notify"
)

// The HTTP form of a message is protobuf's JSON mapping with two differences, for which protojson has no options: a bytes field
// is the JSON value itself, and unknown names are ignored while unknown enum values are not. What is written is always the same
// bytes for the same message; protojson varies its white space on purpose.

const wellKnown = "google.protobuf."

// decodeJSON reads body into m. Its error is a notify.FieldError that names the field as the body does.
func decodeJSON(body []byte, m protoreflect.Message, within string) error {
	object := strings.TrimSuffix(within, ".")
	if object == "" {
		object = "body"
	}
	wrong := &notify.FieldError{Field: object, Want: "one JSON object"}
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return wrong
	}
	seen := map[protoreflect.FieldNumber]bool{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		var raw json.RawMessage
		if err != nil || !ok || dec.Decode(&raw) != nil {
			return wrong
		}
		fd := fieldByName(m.Descriptor().Fields(), name)
		if fd == nil {
			continue // of a later version
		}
		if seen[fd.Number()] {
			return &notify.FieldError{Field: within + name, Want: "one value"}
		}
		seen[fd.Number()] = true
		if err := decodeField(m, fd, raw, within+name); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil || len(bytes.TrimSpace(body[dec.InputOffset():])) > 0 {
		return wrong
	}
	return nil
}

func fieldByName(fields protoreflect.FieldDescriptors, name string) protoreflect.FieldDescriptor {
	if fd := fields.ByTextName(name); fd != nil { // snake_case
		return fd
	}
	return fields.ByJSONName(name) // camelCase
}

func decodeField(m protoreflect.Message, fd protoreflect.FieldDescriptor, raw json.RawMessage, field string) error {
	switch {
	case fd.Kind() == protoreflect.BytesKind && !fd.IsList():
		m.Set(fd, protoreflect.ValueOfBytes(raw)) // checked as in gRPC
		return nil
	case !utf8.Valid(raw):
		return &notify.FieldError{Field: field, Want: "UTF-8"}
	case string(raw) == "null": // the mapping's other way to leave a field out
		return nil
	case fd.Kind() == protoreflect.MessageKind && !fd.IsList() && !fd.IsMap() && !strings.HasPrefix(string(fd.Message().FullName()), wellKnown):
		return decodeJSON(raw, m.Mutable(fd).Message(), field+".")
	}
	if fd.IsList() && fd.Kind() == protoreflect.StringKind {
		return decodeStrings(m, fd, raw, field)
	}
	if decodeOne(m, fd, raw) {
		return nil
	}
	return &notify.FieldError{Field: field, Want: wantOf(fd)}
}

// decodeOne has protojson read one field and merges it into m.
func decodeOne(m protoreflect.Message, fd protoreflect.FieldDescriptor, raw json.RawMessage) bool {
	one := m.New().Interface()
	text := fmt.Appendf(nil, "{%q:%s}", fd.TextName(), raw)
	if protojson.Unmarshal(text, one) != nil {
		return false
	}
	proto.Merge(m.Interface(), one)
	return true
}

// wantOf says in words what a field takes.
func wantOf(fd protoreflect.FieldDescriptor) string {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return "a string"
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.EnumKind:
		var names []string
		values := fd.Enum().Values()
		for i := range values.Len() {
			names = append(names, string(values.Get(i).Name()))
		}
		return "one of " + strings.Join(names, ", ")
	case protoreflect.MessageKind:
		return aTime // the only kind that protojson reads alone
	}
	return "a value of type " + fd.Kind().String()
}

// encodeJSON appends the HTTP form of m to b: snake_case names in the order of the .proto, zero values written, optional fields
// only where set.
func encodeJSON(b []byte, m protoreflect.Message) ([]byte, error) {
	b = append(b, '{')
	fields := m.Descriptor().Fields()
	first := true
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.HasOptionalKeyword() && !m.Has(fd) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendString(b, fd.TextName()), ':')
		var err error
		if b, err = encodeField(b, m, fd); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func encodeField(b []byte, m protoreflect.Message, fd protoreflect.FieldDescriptor) (_ []byte, err error) {
	switch v := m.Get(fd); {
	case fd.IsList():
		b = append(b, '[')
		for i := range v.List().Len() {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = encodeValue(b, fd, v.List().Get(i)); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case fd.IsMap():
		values := map[string]protoreflect.Value{}
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool { values[k.String()] = v; return true })
		b = append(b, '{')
		for i, k := range slices.Sorted(maps.Keys(values)) {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = encodeValue(append(appendString(b, k), ':'), fd.MapValue(), values[k]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	case fd.Message() != nil && !m.Has(fd):
		return append(b, "null"...), nil
	default:
		return encodeValue(b, fd, v)
	}
}

func encodeValue(b []byte, fd protoreflect.FieldDescriptor, v protoreflect.Value) ([]byte, error) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return appendString(b, v.String()), nil
	case protoreflect.BoolKind, protoreflect.Int32Kind:
		return fmt.Append(b, v.Interface()), nil
	case protoreflect.BytesKind:
		if len(v.Bytes()) == 0 {
			return append(b, "null"...), nil
		}
		return append(b, v.Bytes()...), nil
	case protoreflect.EnumKind:
		if d := fd.Enum().Values().ByNumber(v.Enum()); d != nil {
			return appendString(b, string(d.Name())), nil
		}
		return fmt.Append(b, v.Enum()), nil
	case protoreflect.MessageKind:
		if strings.HasPrefix(string(fd.Message().FullName()), wellKnown) { // a string or number: no space to vary
			text, err := protojson.Marshal(v.Message().Interface())
			return append(b, text...), err
		}
		return encodeJSON(b, v.Message())
	}
	return nil, fmt.Errorf("encode %s: kind %s has no form here", fd.FullName(), fd.Kind())
}

// appendString appends a JSON string. Unlike json.Marshal it leaves <, > and & as they are.
func appendString(b []byte, s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string into memory: cannot fail
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}
