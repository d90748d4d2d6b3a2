package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// closed are the types that hold one of a few words although Kubernetes does not mark them with +enum: its validation says so.
var closed = []string{"ScalingPolicySelect", "HPAScalingPolicyType", "MetricSourceType", "MetricTargetType", "RecursiveReadOnlyMode"}

// readWords reads the words that fields of the Go types may hold: definition → field → words.
func readWords(api string) (map[string]map[string][]string, error) {
	all := map[string]map[string][]string{}
	core := map[string][]string{} // what other packages call v1.X
	for _, d := range documents {
		file := filepath.Join(api, filepath.FromSlash(d.types), "types.go")
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("read types: %w", err)
		}
		enums := enumsOf(parsed)
		if d.types == "core/v1" {
			core = enums
		}
		for name, fields := range structsOf(parsed) {
			for field, of := range fields {
				words := enums[of]
				if bare, ok := strings.CutPrefix(of, "v1."); ok {
					words = core[bare]
				}
				if len(words) == 0 {
					continue
				}
				if all[d.prefix+name] == nil {
					all[d.prefix+name] = map[string][]string{}
				}
				all[d.prefix+name][field] = words
			}
		}
	}
	if len(all) < 20 { // the check is worth nothing when the form of the sources changed
		return nil, fmt.Errorf("read types: only %d with an enum", len(all))
	}
	return all, nil
}

// enumsOf are the words of every string type that is marked +enum or closed.
func enumsOf(file *ast.File) map[string][]string {
	marked, words := map[string]bool{}, map[string][]string{}
	eachSpec(file, token.TYPE, func(d *ast.GenDecl, s ast.Spec) {
		t := s.(*ast.TypeSpec)
		if slices.Contains(closed, t.Name.Name) || hasMark(d.Doc) || hasMark(t.Doc) {
			marked[t.Name.Name] = true
		}
	})
	eachSpec(file, token.CONST, func(_ *ast.GenDecl, s ast.Spec) {
		c := s.(*ast.ValueSpec)
		if id, ok := c.Type.(*ast.Ident); ok && marked[id.Name] && len(c.Values) == 1 {
			if lit, ok := c.Values[0].(*ast.BasicLit); ok {
				if word, err := strconv.Unquote(lit.Value); err == nil {
					words[id.Name] = append(words[id.Name], word)
				}
			}
		}
	})
	for _, list := range words {
		slices.Sort(list)
	}
	return words
}

// hasMark looks at the comment itself: Text leaves out lines that look like directives.
func hasMark(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.TrimSpace(strings.TrimPrefix(c.Text, "//")) == "+enum" })
}

// structsOf are the JSON names of every struct's fields, with their types; [] stands before the type of a list.
func structsOf(file *ast.File) map[string]map[string]string {
	all := map[string]map[string]string{}
	eachSpec(file, token.TYPE, func(_ *ast.GenDecl, s ast.Spec) {
		t := s.(*ast.TypeSpec)
		st, ok := t.Type.(*ast.StructType)
		if !ok {
			return
		}
		fields := map[string]string{}
		for _, f := range st.Fields.List {
			if f.Tag == nil {
				continue
			}
			tag, _ := strconv.Unquote(f.Tag.Value)
			name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
			if name != "" && name != "-" {
				fields[name] = typeName(f.Type)
			}
		}
		all[t.Name.Name] = fields
	})
	return all
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.ArrayType:
		return typeName(e.Elt)
	case *ast.SelectorExpr:
		return typeName(e.X) + "." + e.Sel.Name
	}
	return ""
}

func eachSpec(file *ast.File, what token.Token, f func(*ast.GenDecl, ast.Spec)) {
	for _, d := range file.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == what {
			for _, s := range g.Specs {
				f(g, s)
			}
		}
	}
}

// addWords writes the words into a definition's fields, or into the items of those that are lists.
func addWords(def map[string]any, words map[string][]string) {
	properties, _ := def["properties"].(map[string]any)
	for field, list := range words {
		p, ok := properties[field].(map[string]any)
		if !ok {
			continue
		}
		if items, ok := p["items"].(map[string]any); ok {
			p = items
		}
		if p["type"] == "string" {
			p["enum"] = list
		}
	}
}
