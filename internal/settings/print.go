package settings

import (
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Print writes the settings that count as a settings file: each with where it comes from, secrets hidden.
func (l *Loaded) Print(w io.Writer) error {
	return write(w, l.Program, &l.Settings, func(one leaf, n *yaml.Node) {
		source := l.sources[one.path]
		if source == "" {
			source = "default"
		}
		n.LineComment = source
	})
}

// Defaults writes a settings file with every setting of a program, its default and what it means.
func Defaults(w io.Writer, program string) error {
	l, err := Load(program, nil, nil)
	if err != nil {
		return err
	}
	return write(w, program, &l.Settings, func(one leaf, n *yaml.Node) { n.HeadComment = one.tag.Get("help") })
}

func write(w io.Writer, program string, s *Settings, comment func(leaf, *yaml.Node)) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, l := range s.leaves() {
		if !l.isFor(program) {
			continue
		}
		into, rest := root, l.path
		for { // sections come in the order of the tree
			section, below, nested := strings.Cut(rest, ".")
			if !nested {
				break
			}
			into, rest = sectionOf(into, section), below
		}
		key, value := &yaml.Node{Kind: yaml.ScalarNode, Value: rest}, nodeOf(l.v)
		if value.Style == 0 && value.Kind != yaml.ScalarNode {
			comment(l, key) // in front of what takes lines of its own
		} else {
			comment(l, value)
		}
		if value.HeadComment != "" {
			key.HeadComment, value.HeadComment = value.HeadComment, ""
		}
		into.Content = append(into.Content, key, value)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	return enc.Close()
}

func sectionOf(n *yaml.Node, name string) *yaml.Node {
	if end := len(n.Content); end > 0 && n.Content[end-2].Value == name {
		return n.Content[end-1]
	}
	below := &yaml.Node{Kind: yaml.MappingNode}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, below)
	return below
}

// nodeOf writes a value with the names of the tree. What is empty in an element of a list is left out.
func nodeOf(v reflect.Value) *yaml.Node {
	switch t := v.Type(); {
	case isScalar(t):
		n := &yaml.Node{Kind: yaml.ScalarNode, Value: show(v)}
		if t.Kind() == reflect.String { // quoted only where it would be read as something else
			n.Tag = "!!str"
		}
		return n
	case t.Kind() == reflect.Pointer:
		if v.IsNil() {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
		}
		return nodeOf(v.Elem())
	case t.Kind() == reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		if v.Len() == 0 || isList(t) {
			n.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			n.Content = append(n.Content, nodeOf(v.Index(i)))
		}
		return n
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := range v.NumField() {
		if f := v.Field(i); !f.IsZero() && !fromFile(v, i) {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: v.Type().Field(i).Tag.Get("name")}, nodeOf(f))
		}
	}
	if len(n.Content) == 0 {
		n.Style = yaml.FlowStyle
	}
	return n
}

// fromFile tells whether a field is what the file beside it holds: who prints settings did not write it, and it may be a private key by mistake.
func fromFile(v reflect.Value, i int) bool {
	for j := range v.NumField() {
		if v.Type().Field(j).Tag.Get("name") == v.Type().Field(i).Tag.Get("name")+"_file" {
			return v.Field(j).String() != "" && v.Field(i).Type() != reflect.TypeFor[Secret]()
		}
	}
	return false
}
