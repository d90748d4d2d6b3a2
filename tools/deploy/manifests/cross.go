package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// external are the Secrets that somebody makes before prod is applied (deploy/k8s/README.md), with the files that must be in each.
var external = map[string][]string{
	"allim-keys":            {"keys.yaml"},
	"allim-api-keys":        {"api_keys.yaml"},
	"allim-redis-gateway":   {"password", "ca.crt"},
	"allim-redis-publisher": {"password", "ca.crt"},
	"allim-publisher-tls":   {"tls.crt", "tls.key"},
	"allim-gateway-tls":     {"tls.crt", "tls.key"},
}

// A house is what is applied together, and what was found to be wrong with it.
type house struct {
	all      list
	external map[string][]string
	mistakes []string
}

func (h *house) wrong(o object, format string, args ...any) {
	h.mistakes = append(h.mistakes, fmt.Sprintf("%s: %s", o, fmt.Sprintf(format, args...)))
}

// crossCheck is what is wrong between valid objects.
func crossCheck(objects list, external map[string][]string) []string {
	h := &house{all: objects, external: external}
	h.namespaces()
	h.ways()
	for _, d := range objects.of("Deployment") {
		h.deployment(d)
	}
	for _, s := range objects.of("Service") {
		h.service(s)
	}
	for _, p := range objects.of("PodDisruptionBudget") {
		h.one(p, fields(p, "spec", "selector", "matchLabels"))
	}
	for _, a := range objects.of("HorizontalPodAutoscaler") {
		h.autoscaler(a)
	}
	for _, n := range objects.of("NetworkPolicy") {
		h.policy(n)
	}
	for _, r := range objects.of("HTTPRoute") {
		h.route(r)
	}
	return h.mistakes
}

// namespaces: one, which is there and keeps to the restricted profile.
func (h *house) namespaces() {
	spaces := h.all.of("Namespace")
	if len(spaces) != 1 {
		h.mistakes = append(h.mistakes, fmt.Sprintf("%d namespaces, want 1", len(spaces)))
		return
	}
	if got := text(spaces[0], "metadata", "labels", "pod-security.kubernetes.io/enforce"); got != "restricted" {
		h.wrong(spaces[0], "pod security is %q, want restricted", got)
	}
	for _, o := range h.all {
		if o.kind() != "Namespace" && text(o, "metadata", "namespace") != spaces[0].name() {
			h.wrong(o, "is in namespace %q, not in %q", text(o, "metadata", "namespace"), spaces[0].name())
		}
	}
}

// selected are the Deployments whose pods bear the labels.
func (h *house) selected(labels map[string]any) (all list) {
	for _, d := range h.all.of("Deployment") {
		if bears(fields(d, "spec", "template", "metadata", "labels"), labels) {
			all = append(all, d)
		}
	}
	return all
}

func bears(has, wants map[string]any) bool {
	for name, v := range wants {
		if has[name] != v {
			return false
		}
	}
	return true
}

// one is the one Deployment that o selects; nil, and a mistake, if it is not one.
func (h *house) one(o object, labels map[string]any) object {
	found := h.selected(labels)
	if len(found) != 1 {
		h.wrong(o, "selects %d Deployments by %v, want 1", len(found), labels)
		return nil
	}
	return found[0]
}

func (h *house) service(s object) {
	d := h.one(s, fields(s, "spec", "selector"))
	for _, p := range items(s, "spec", "ports") {
		if name := text(p, "targetPort"); name == "ops" {
			h.wrong(s, "port %q leads to the operations port", text(p, "name"))
		} else if d != nil && !slices.Contains(portNames(d), name) {
			h.wrong(s, "port %q leads to %q; %s has %v", text(p, "name"), name, d, portNames(d))
		}
	}
}

func (h *house) autoscaler(a object) {
	target := text(a, "spec", "scaleTargetRef", "kind") + "/" + text(a, "spec", "scaleTargetRef", "name")
	i := slices.IndexFunc(h.all, func(o object) bool { return o.String() == target })
	if i < 0 {
		h.wrong(a, "scales %s, which is not there", target)
		return
	}
	if at(h.all[i], "spec", "replicas") != nil {
		h.wrong(a, "%s says replicas: every apply would undo the autoscaler", target)
	}
	if low, high := number(a, "spec", "minReplicas"), number(a, "spec", "maxReplicas"); low < 2 || low > high {
		h.wrong(a, "%d to %d pods", low, high)
	}
	for _, c := range containers(h.all[i]) {
		if at(c, "resources", "requests", "cpu") == nil {
			h.wrong(a, "%s requests no CPU: there is nothing to be a percentage of", target)
		}
	}
}

func (h *house) policy(n object) {
	labels := fields(n, "spec", "podSelector", "matchLabels")
	pods := h.selected(labels)
	if len(pods) == 0 {
		h.wrong(n, "selects no pods by %v", labels)
	}
	for _, rule := range items(n, "spec", "ingress") {
		for _, p := range items(rule, "ports") {
			name := text(p, "port")
			for _, d := range pods {
				if !slices.Contains(portNames(d), name) {
					h.wrong(n, "lets in to port %q; %s has %v", name, d, portNames(d))
				}
			}
		}
	}
}

func (h *house) route(r object) {
	for _, rule := range items(r, "spec", "rules") {
		for _, word := range []string{"request", "backendRequest"} {
			if got := text(rule, "timeouts", word); got != "0s" {
				h.wrong(r, "timeout %s is %q: WebSockets need 0s", word, got)
			}
		}
		for _, b := range items(rule, "backendRefs") {
			if !slices.ContainsFunc(h.all.of("Service"), func(s object) bool {
				return s.name() == text(b, "name") && slices.ContainsFunc(items(s, "spec", "ports"), func(p any) bool { return number(p, "port") == number(b, "port") })
			}) {
				h.wrong(r, "leads to %s:%d, which no Service has", text(b, "name"), number(b, "port"))
			}
		}
	}
}

// containers are those of a Deployment's pods, the ones that prepare them first.
func containers(d object) []any {
	return slices.Concat(items(d, "spec", "template", "spec", "initContainers"), items(d, "spec", "template", "spec", "containers"))
}

func portNames(d object) []string {
	names := map[string]bool{}
	for _, c := range containers(d) {
		for _, p := range items(c, "ports") {
			names[text(p, "name")] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// isSecret says whether an environment name is one whose value nobody may see.
func isSecret(name string) bool {
	if strings.HasSuffix(name, "_FILE") {
		return false
	}
	for _, word := range []string{"PASSWORD", "SECRET", "TOKEN", "_KEY", "KEYS"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
