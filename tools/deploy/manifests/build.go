package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// An object is a Kubernetes object as JSON has it; numbers are json.Number.
type object map[string]any

// A list is what is applied together, in the order of kustomize.
type list []object

// build builds the kustomization in dir with the same rules as kubectl: no file from outside, no plugins, no network.
func build(dir string) (list, error) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", dir, err)
	}
	var objects list
	for _, r := range built.Resources() {
		text, err := r.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("build %s: %s: %w", dir, r.CurId(), err)
		}
		o, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("build %s: %s: %w", dir, r.CurId(), err)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

func parse(text []byte) (o object, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err = d.Decode(&o)
	return o, err
}

func (l list) yaml() ([]byte, error) {
	var b bytes.Buffer
	for i, o := range l {
		text, err := yaml.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", o, err)
		}
		if i > 0 {
			b.WriteString("---\n")
		}
		b.Write(text)
	}
	return b.Bytes(), nil
}

// String is how a mistake names the object.
func (o object) String() string { return o.kind() + "/" + o.name() }

func (o object) kind() string { return text(o, "kind") }
func (o object) name() string { return text(o, "metadata", "name") }

// at is what stands under a path of fields; nil: nothing.
func at(v any, path ...string) any {
	for _, p := range path {
		switch m := v.(type) {
		case object:
			v = m[p]
		case map[string]any:
			v = m[p]
		default:
			return nil
		}
	}
	return v
}

func text(v any, path ...string) string { s, _ := at(v, path...).(string); return s }

func items(v any, path ...string) []any { l, _ := at(v, path...).([]any); return l }

func fields(v any, path ...string) map[string]any { m, _ := at(v, path...).(map[string]any); return m }

// number is an integer; -1: there is none.
func number(v any, path ...string) int64 {
	n, ok := at(v, path...).(json.Number)
	if !ok {
		return -1
	}
	i, err := n.Int64()
	if err != nil {
		return -1
	}
	return i
}

func (l list) of(kind string) (all list) {
	for _, o := range l {
		if o.kind() == kind {
			all = append(all, o)
		}
	}
	return all
}
