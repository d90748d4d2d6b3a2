package settings

import (
	"log/slog"
	"reflect"
	"strings"
)

// A leaf is one setting: a scalar, a list of texts, or something structured that is written as YAML.
type leaf struct {
	path string // redis.url
	of   string // the one program that it is for; "": both
	tag  reflect.StructTag
	v    reflect.Value // settable
}

func (l leaf) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(l.path) }
func (l leaf) env() string {
	return "ALLIM_" + strings.ToUpper(strings.ReplaceAll(l.path, ".", "_"))
}

// fallback is the default for a program.
func (l leaf) fallback(program string) string {
	if own := l.tag.Get(program); program != Both && own != "" {
		return own
	}
	return l.tag.Get("default")
}

func (l leaf) isFor(program string) bool { return program == Both || l.of == "" || l.of == program }

// leaves are all settings of the tree, in its order.
func (s *Settings) leaves() []leaf { return walk(nil, "", "", reflect.ValueOf(s).Elem()) }

func walk(all []leaf, prefix, of string, v reflect.Value) []leaf {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		l := leaf{path: prefix + f.Tag.Get("name"), of: f.Tag.Get("of"), tag: f.Tag, v: v.Field(i)}
		if l.of == "" {
			l.of = of
		}
		if f.Type.Kind() == reflect.Struct {
			all = walk(all, l.path+".", l.of, l.v)
			continue
		}
		all = append(all, l)
	}
	return all
}

// isScalar tells whether values of a type are one text each.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64:
		return true
	}
	return false
}

// isList tells whether values of a type are lists of texts.
func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String
}

// element is the struct that a structured setting consists of.
func element(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// describe says what kind of value a type takes.
func describe(t reflect.Type, tag reflect.StructTag) string {
	switch {
	case tag.Get("enum") != "":
		return strings.ReplaceAll(tag.Get("enum"), ",", " or ")
	case isList(t):
		return "list of texts"
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.Pointer:
		return "object"
	}
	switch reflect.Zero(t).Interface().(type) {
	case Duration:
		return "duration, " + tag.Get("min") + " to " + tag.Get("max")
	case Size:
		return "size, " + tag.Get("min") + " to " + tag.Get("max")
	case slog.Level:
		return "level"
	case bool:
		return "true or false"
	case int:
		return "number, " + tag.Get("min") + " to " + tag.Get("max")
	case Secret:
		return "secret text"
	case URL:
		return "URL"
	}
	return "text"
}
