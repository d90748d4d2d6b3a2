package main

import (
	"math"
	"strings"
)

// quantity is how an amount such as 100m or 1Gi is written; the pattern is the one that Kubernetes puts into CRDs.
const quantity = `^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$`

// keep are the words of a schema that say what is valid.
var keep = map[string]bool{"type": true, "required": true, "enum": true, "pattern": true, "minimum": true, "maximum": true, "minLength": true, "maxLength": true,
	"minItems": true, "maxItems": true, "minProperties": true, "maxProperties": true, "uniqueItems": true}

// strict is what a schema says about validity, and that nothing else is valid: a field that it does not name is a mistake. References are told to ref.
func strict(of any, ref func(string)) any {
	def, ok := of.(map[string]any)
	if !ok {
		return of
	}
	if name, ok := def["$ref"].(string); ok {
		name = strings.TrimPrefix(name, "#/components/schemas/")
		ref(name)
		return map[string]any{"$ref": "#/$defs/" + name}
	}
	out := map[string]any{}
	for word, v := range def {
		if keep[word] {
			out[word] = v
		}
	}
	switch def["format"] {
	case "int32":
		bound(out, math.MinInt32, math.MaxInt32)
	case "int-or-string":
		return map[string]any{"type": []any{"integer", "string"}}
	}
	if def["x-kubernetes-int-or-string"] == true {
		return map[string]any{"type": []any{"integer", "string"}}
	}
	if text, _ := def["description"].(string); strings.HasPrefix(text, "Quantity is a fixed-point") {
		return map[string]any{"type": []any{"string", "number"}, "pattern": quantity}
	}
	if all, ok := def["allOf"].([]any); ok && len(all) == 1 && len(out) == 0 {
		return strict(all[0], ref)
	}
	for _, word := range []string{"allOf", "anyOf", "oneOf"} {
		if list, ok := def[word].([]any); ok {
			out[word] = each(list, func(v any) any { return loose(v) })
		}
	}
	if items, ok := def["items"]; ok {
		out["items"] = strict(items, ref)
	}
	if more, ok := def["additionalProperties"]; ok {
		out["additionalProperties"] = strict(more, ref)
	}
	if properties, ok := def["properties"].(map[string]any); ok {
		fields := map[string]any{}
		for name, p := range properties {
			fields[name] = strict(p, ref)
		}
		out["properties"] = fields
		if def["additionalProperties"] == nil && def["x-kubernetes-preserve-unknown-fields"] != true {
			out["additionalProperties"] = false
		}
	}
	return out
}

// loose is a schema inside allOf, anyOf or oneOf: it adds to one that names the fields, so it may not forbid the others.
func loose(of any) any {
	def, _ := strict(of, func(string) {}).(map[string]any)
	if def["additionalProperties"] == false {
		delete(def, "additionalProperties")
	}
	return def
}

func bound(out map[string]any, low, high int) {
	if out["minimum"] == nil {
		out["minimum"] = low
	}
	if out["maximum"] == nil {
		out["maximum"] = high
	}
}

func each(list []any, f func(any) any) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = f(v)
	}
	return out
}
