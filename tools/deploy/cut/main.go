// Command cut writes the few schemas that our manifests are held against, out of modules that are far too big to be a dependency: the OpenAPI
// documents of k8s.io/kubernetes, the Go types of k8s.io/api (only they know which words a field may hold) the definitions (CRDs) of
// Gateway API and of the Prometheus Operator, and the schema of compose files. scripts/k8s-schemas downloads them and runs it; what it writes is committed.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// documents are the OpenAPI documents and the kinds that we take from each.
var documents = []struct{ file, prefix, types, kinds string }{
	{"api__v1", "io.k8s.api.core.v1.", "core/v1", "ConfigMap Namespace Secret Service ServiceAccount"},
	{"apis__apps__v1", "io.k8s.api.apps.v1.", "apps/v1", "Deployment"},
	{"apis__autoscaling__v2", "io.k8s.api.autoscaling.v2.", "autoscaling/v2", "HorizontalPodAutoscaler"},
	{"apis__networking.k8s.io__v1", "io.k8s.api.networking.v1.", "networking/v1", "NetworkPolicy"},
	{"apis__policy__v1", "io.k8s.api.policy.v1.", "policy/v1", "PodDisruptionBudget"},
}

// The definitions (CRDs) that we take.
var gatewayDefinitions = definitions{"gateway-api.json", "config/crd/standard", []string{"gateway.networking.k8s.io_httproutes", "gateway.networking.k8s.io_backendtlspolicies"}}
var monitoringDefinitions = definitions{"prometheus-operator.json", "example/prometheus-operator-crd", []string{"monitoring.coreos.com_podmonitors", "monitoring.coreos.com_prometheusrules"}}

type definitions struct {
	out, dir string
	files    []string
}

const objectMeta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

// A schema is one file of ours: JSON Schema 2020-12, one definition a Kubernetes type.
type schema struct {
	Comment string            `json:"$comment"` // source and licence
	Kinds   map[string]string `json:"x-kinds"`  // "apps/v1 Deployment" → its definition
	Defs    map[string]any    `json:"$defs"`
}

func main() {
	if len(os.Args) != 7 {
		fmt.Fprintln(os.Stderr, "usage: cut KUBERNETES-DIR API-DIR GATEWAY-API-DIR PROMETHEUS-OPERATOR-DIR COMPOSE-DIR OUT-DIR (see scripts/k8s-schemas)")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6]); err != nil {
		fmt.Fprintln(os.Stderr, "cut:", err)
		os.Exit(1)
	}
}

func run(kubernetes, api, gatewayAPI, operator, composeDir, out string) error {
	core := schema{Comment: source(kubernetes, "api/openapi-spec/v3; the words of an enum are from "+module(api)), Kinds: map[string]string{}, Defs: map[string]any{}}
	words, err := readWords(api)
	if err != nil {
		return err
	}
	for _, d := range documents {
		if err := core.take(filepath.Join(kubernetes, "api/openapi-spec/v3", d.file+"_openapi.json"), d.prefix, strings.Fields(d.kinds), words); err != nil {
			return err
		}
	}
	if err := core.write(filepath.Join(out, "kubernetes.json")); err != nil {
		return err
	}
	if err := gatewayDefinitions.cut(gatewayAPI, out, core); err != nil {
		return err
	}
	if err := monitoringDefinitions.cut(operator, out, core); err != nil {
		return err
	}
	return compose(composeDir, out)
}

// cut writes the schema of CRDs; what metadata is made of is taken from the core.
func (d definitions) cut(from, out string, core schema) error {
	s := schema{Comment: source(from, d.dir), Kinds: map[string]string{}, Defs: map[string]any{}}
	for name, def := range core.Defs {
		if strings.HasPrefix(name, "io.k8s.apimachinery.pkg.apis.meta.v1.") {
			s.Defs[name] = def
		}
	}
	for _, file := range d.files {
		if err := s.takeCRD(filepath.Join(from, d.dir, file+".yaml")); err != nil {
			return err
		}
	}
	return s.write(filepath.Join(out, d.out))
}

// compose takes the schema of compose files, which is strict as it is, without its words for people.
func compose(dir, out string) error {
	text, err := os.ReadFile(filepath.Join(dir, "schema/compose-spec.json"))
	if err != nil {
		return err
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("compose schema: %w", err)
	}
	if doc["properties"] == nil || doc["additionalProperties"] != false {
		return fmt.Errorf("compose schema: it lets unknown fields pass")
	}
	silence(doc)
	delete(doc, "$id")
	doc["$comment"] = fmt.Sprintf("Cut by scripts/k8s-schemas from %s, schema/compose-spec.json. Copyright The Compose Specification Authors, Apache License 2.0.", module(dir))
	if text, err = json.Marshal(doc); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "compose.json"), append(text, '\n'), 0o644)
}

func silence(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["description"].(string); ok {
			delete(v, "description")
		}
		for _, w := range v {
			silence(w)
		}
	case []any:
		for _, w := range v {
			silence(w)
		}
	}
}

// module is name@version of a directory in the module cache.
func module(dir string) string {
	_, name, _ := strings.Cut(filepath.ToSlash(dir), "/pkg/mod/")
	return name
}

func source(dir, path string) string {
	return fmt.Sprintf("Cut by scripts/k8s-schemas from %s, %s. Copyright its authors, Apache License 2.0.", module(dir), path)
}

// take takes kinds, and whatever they refer to, from an OpenAPI 3 document.
func (s *schema) take(file, prefix string, kinds []string, words map[string]map[string][]string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var doc struct {
		Components struct {
			Schemas map[string]map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var need []string
	for _, kind := range kinds {
		def := doc.Components.Schemas[prefix+kind]
		gvks, _ := def["x-kubernetes-group-version-kind"].([]any)
		if len(gvks) == 0 {
			return fmt.Errorf("%s has no kind %s", file, kind)
		}
		gvk := gvks[0].(map[string]any)
		apiVersion := strings.TrimPrefix(fmt.Sprintf("%s/%s", gvk["group"], gvk["version"]), "/")
		s.Kinds[apiVersion+" "+kind] = prefix + kind
		need = append(need, prefix+kind)
	}
	for len(need) > 0 {
		name := need[0]
		need = need[1:]
		if s.Defs[name] != nil {
			continue
		}
		def, ok := doc.Components.Schemas[name]
		if !ok {
			return fmt.Errorf("%s has no definition %s", file, name)
		}
		s.Defs[name] = strict(def, func(ref string) { need = append(need, ref) })
		addWords(s.Defs[name].(map[string]any), words[name])
	}
	return nil
}

// takeCRD takes version v1 of the kind that a CustomResourceDefinition defines.
func (s *schema) takeCRD(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var crd struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct{ OpenAPIV3Schema map[string]any }
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, v := range crd.Spec.Versions {
		if v.Name != "v1" {
			continue
		}
		def := strict(v.Schema.OpenAPIV3Schema, nil).(map[string]any)
		def["properties"].(map[string]any)["metadata"] = map[string]any{"$ref": "#/$defs/" + objectMeta}
		s.Kinds[crd.Spec.Group+"/v1 "+crd.Spec.Names.Kind] = crd.Spec.Names.Kind
		s.Defs[crd.Spec.Names.Kind] = def
		return nil
	}
	return fmt.Errorf("%s has no version v1", file)
}

func (s *schema) write(file string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return err
	}
	// One definition a line: the difference between two versions can be read.
	text := strings.ReplaceAll(b.String(), `,"io.k8s.`, ",\n\"io.k8s.")
	return os.WriteFile(file, []byte(text), 0o644)
}
