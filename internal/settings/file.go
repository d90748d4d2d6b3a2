package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	maxFile   = 4 << 20  // bytes of a settings file
	maxSecret = 64 << 10 // bytes of a file that a setting names
)

// readFile is the text of a file of at most so many bytes.
func readFile(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() { // a pipe would hold up whoever reads it again
		err = fmt.Errorf("%s: expected a regular file", path)
	}
	if err != nil {
		return nil, plain(err)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, plain(err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s: more than %d bytes", path, most)
	}
	return text, plain(err)
}

// plain drops the system call's name, which helps nobody.
func plain(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Path, pe.Err)
	}
	return err
}

// parse is the one document of a YAML text; nil when it says nothing.
func parse(text []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		why := strings.TrimPrefix(err.Error(), "yaml: ")
		if strings.HasPrefix(why, "unknown anchor") { // it may be a secret that begins with *
			why = "a value begins with * and is not quoted"
		}
		return nil, errors.New(why)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("expected one YAML document")
	}
	return doc.Content[0], nil
}

// A decoder writes YAML into the tree and remembers where every value stands.
type decoder struct {
	at       func(line int) string // what a mistake there is called
	mistakes *Mistakes
	sources  map[string]string // by path; nil: nobody asks
}

func (d *decoder) wrong(n *yaml.Node, path, want string) {
	d.mistakes.add(d.at(n.Line), path, want)
}

// value decodes n into v, a struct, list, pointer or scalar.
func (d *decoder) value(n *yaml.Node, path string, v reflect.Value, tag reflect.StructTag) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	null := n.Kind == yaml.ScalarNode && n.Tag == "!!null"
	switch t := v.Type(); {
	case isScalar(t):
		if n.Kind != yaml.ScalarNode || null {
			d.wrong(n, path, "expected "+describe(t, tag)+", not "+kindOf(n))
			return
		}
		d.note(n, path)
		if want := set(v, n.Value, tag); want != "" {
			d.wrong(n, path, "expected "+want+not(v, n.Value))
		}
	case t.Kind() == reflect.Pointer:
		if !null {
			v.Set(reflect.New(t.Elem()))
			d.value(n, path, v.Elem(), tag)
		}
	case t.Kind() == reflect.Slice:
		if null {
			return
		}
		if n.Kind != yaml.SequenceNode {
			d.wrong(n, path, "expected a list, not "+kindOf(n))
			return
		}
		d.note(n, path)
		v.Set(reflect.MakeSlice(t, len(n.Content), len(n.Content)))
		for i, item := range n.Content {
			d.value(item, fmt.Sprintf("%s[%d]", path, i), v.Index(i), "")
		}
	default:
		d.object(n, path, v, null)
	}
}

// object decodes a mapping into a struct.
func (d *decoder) object(n *yaml.Node, path string, v reflect.Value, null bool) {
	if null {
		return // a section whose lines are all comments
	}
	if n.Kind != yaml.MappingNode {
		d.mistakes.Unread = d.mistakes.Unread || path == ""
		d.wrong(n, path, "expected names with values, not "+kindOf(n))
		return
	}
	d.note(n, path)
	names := make([]string, v.NumField())
	for i := range names {
		names[i] = v.Type().Field(i).Tag.Get("name")
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		full := nameOf(key.Value)
		if path != "" {
			full = path + "." + full
		}
		switch at := index(names, key.Value); {
		case key.Kind != yaml.ScalarNode || at < 0:
			d.wrong(key, full, "unknown"+meant(key.Value, names))
		case seen[key.Value]:
			d.wrong(key, full, "given twice")
		default:
			seen[key.Value] = true
			d.value(val, full, v.Field(at), v.Type().Field(at).Tag)
		}
	}
}

// nameOf is what is shown of a name: "password:hunter2" without its blank is a name, too.
func nameOf(key string) string {
	if i := strings.IndexAny(key, ":= "); i >= 0 {
		return key[:i] + "…"
	}
	return key[:min(64, len(key))]
}

func (d *decoder) note(n *yaml.Node, path string) {
	if d.sources != nil {
		d.sources[path] = d.at(n.Line)
	}
}

func index(list []string, s string) int {
	for i, x := range list {
		if x == s {
			return i
		}
	}
	return -1
}

// not quotes what was given instead, unless it must not be shown.
func not(v reflect.Value, text string) string {
	switch v.Interface().(type) {
	case Secret, URL:
		return ""
	}
	if len(text) > 64 {
		text = text[:64] + "…"
	}
	return fmt.Sprintf(", not %q", text)
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "names with values"
	case yaml.SequenceNode:
		return "a list"
	}
	if n.Tag == "!!null" {
		return "nothing"
	}
	return "a single value"
}

// beside is path as seen from the file that names it.
func beside(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
