package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// The schemas are cut by scripts/k8s-schemas; each says in $comment what it is from.
//
//go:embed schemas/*.json
var schemaFiles embed.FS

// schemas is "apps/v1 Deployment", or "compose.json", → its schema.
var schemas = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	all := map[string]*jsonschema.Schema{}
	files, err := schemaFiles.ReadDir("schemas")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		raw, err := schemaFiles.ReadFile("schemas/" + f.Name())
		if err != nil {
			return nil, err
		}
		var head struct {
			Kinds map[string]string `json:"x-kinds"`
		}
		if err := json.Unmarshal(raw, &head); err != nil {
			return nil, fmt.Errorf("schema %s: %w", f.Name(), err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			return nil, fmt.Errorf("schema %s: %w", f.Name(), err)
		}
		c := jsonschema.NewCompiler()
		if err := c.AddResource(f.Name(), doc); err != nil {
			return nil, fmt.Errorf("schema %s: %w", f.Name(), err)
		}
		if len(head.Kinds) == 0 { // the schema of one kind of file, as a whole
			if all[f.Name()], err = c.Compile(f.Name()); err != nil {
				return nil, fmt.Errorf("schema %s: %w", f.Name(), err)
			}
		}
		for kind, def := range head.Kinds {
			if all[kind], err = c.Compile(f.Name() + "#/$defs/" + def); err != nil {
				return nil, fmt.Errorf("schema %s: %w", f.Name(), err)
			}
		}
	}
	return all, nil
})

// validate is what is wrong with each object by itself: "Deployment/gateway: /spec/replicas: got string, want integer".
func validate(objects list) (mistakes []string) {
	known, err := schemas()
	if err != nil {
		return []string{err.Error()}
	}
	for _, o := range objects {
		kind := text(o, "apiVersion") + " " + o.kind()
		schema := known[kind]
		if schema == nil {
			mistakes = append(mistakes, fmt.Sprintf("%s: no schema for %s; there are %s", o, kind, strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
			continue
		}
		if o.name() == "" {
			mistakes = append(mistakes, fmt.Sprintf("%s: /metadata: missing property 'name'", o))
		}
		if err := schema.Validate(map[string]any(o)); err != nil {
			for _, m := range leaves(err.(*jsonschema.ValidationError)) {
				mistakes = append(mistakes, fmt.Sprintf("%s: %s", o, m))
			}
		}
	}
	return mistakes
}

var english = message.NewPrinter(language.English)

// leaves are the mistakes themselves, without the schemas that led there.
func leaves(e *jsonschema.ValidationError) (all []string) {
	if len(e.Causes) == 0 {
		return []string{fmt.Sprintf("/%s: %s", strings.Join(e.InstanceLocation, "/"), e.ErrorKind.LocalizedString(english))}
	}
	for _, c := range e.Causes {
		all = append(all, leaves(c)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
