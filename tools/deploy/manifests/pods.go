package main

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// stopBudgets are the seconds that the programs may take to stop, and pauses whether the manifest must make them wait before; a test of the main module
// holds the programs themselves against the manifests.
var (
	stopBudgets = map[string]int64{"gateway": 44, "publisher": 41}
	pauses      = map[string]bool{"publisher": true} // gateway has drain.pause
)

// deployment checks what a Deployment says about its pods.
func (h *house) deployment(d object) {
	labels := fields(d, "spec", "template", "metadata", "labels")
	if selector := fields(d, "spec", "selector", "matchLabels"); len(selector) == 0 || !bears(labels, selector) {
		h.wrong(d, "its selector %v does not find its pods %v", selector, labels)
	}
	pod := at(d, "spec", "template", "spec")
	for _, word := range []string{"automountServiceAccountToken", "enableServiceLinks"} {
		if at(pod, word) != false {
			h.wrong(d, "%s is not false", word)
		}
	}
	for _, s := range items(pod, "topologySpreadConstraints") {
		if !bears(labels, fields(s, "labelSelector", "matchLabels")) {
			h.wrong(d, "topology spread by %s counts other pods", text(s, "topologyKey"))
		}
	}
	volumes := h.volumes(d)
	for _, c := range containers(d) {
		h.security(d, c)
		h.probes(d, c)
		h.mounts(d, c, volumes)
		h.memory(d, c)
		name := text(c, "name")
		budget, ours := stopBudgets[name]
		if grace, pre := number(pod, "terminationGracePeriodSeconds"), max(0, number(c, "lifecycle", "preStop", "sleep", "seconds")); ours && (pre >= 1 != pauses[name] || grace <= pre+budget) {
			h.wrong(d, "grace period of %d s, want more than %d s of preStop and %d s to stop (gateway pauses by itself, publisher does not)", grace, pre, budget)
		}
	}
	for name, v := range volumes {
		if !v.mounted {
			h.wrong(d, "volume %q is mounted nowhere", name)
		}
	}
}

// security: what the restricted profile of Pod Security asks for, and a root that nobody writes to.
func (h *house) security(d object, c any) {
	for where, want := range map[string]any{"runAsNonRoot": true, "seccompProfile.type": "RuntimeDefault"} {
		steps := strings.Split(where, ".")
		got := at(c, append([]string{"securityContext"}, steps...)...)
		if got == nil {
			got = at(d, append([]string{"spec", "template", "spec", "securityContext"}, steps...)...)
		}
		if got != want {
			h.wrong(d, "container %s: securityContext.%s is %v, want %v", text(c, "name"), where, got, want)
		}
	}
	for word, want := range map[string]bool{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true} {
		if got := at(c, "securityContext", word); got != want {
			h.wrong(d, "container %s: securityContext.%s is %v, want %v", text(c, "name"), word, got, want)
		}
	}
	if drop := items(c, "securityContext", "capabilities", "drop"); !slices.Contains(drop, any("ALL")) || len(items(c, "securityContext", "capabilities", "add")) > 0 {
		h.wrong(d, "container %s: capabilities are not dropped", text(c, "name"))
	}
}

// probes name ports that are there, and live never asks for more than the process.
func (h *house) probes(d object, c any) {
	for _, probe := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
		p := at(c, probe)
		if p == nil {
			if _, ours := stopBudgets[text(c, "name")]; ours {
				h.wrong(d, "container %s has no %s", text(c, "name"), probe)
			}
			continue
		}
		port := text(p, "httpGet", "port") + text(p, "tcpSocket", "port")
		if !slices.ContainsFunc(items(c, "ports"), func(have any) bool { return text(have, "name") == port }) {
			h.wrong(d, "%s asks port %q, which container %s does not name", probe, port, text(c, "name"))
		}
		want := "/healthz/live" // never ready: an outage of Redis would restart every pod
		if probe == "readinessProbe" {
			want = "/healthz/ready"
		}
		if got := text(p, "httpGet", "path"); at(p, "httpGet") != nil && got != want {
			h.wrong(d, "%s asks %s, want %s", probe, got, want)
		}
	}
}

var gomemlimit = regexp.MustCompile(`^([0-9]+)MiB$`)

// memory: requests are limits, and Go keeps 10 to 20 % below them. CPU has no limit.
func (h *house) memory(d object, c any) {
	limit := text(c, "resources", "limits", "memory")
	if limit == "" || at(c, "resources", "requests", "cpu") == nil || at(c, "resources", "limits", "cpu") != nil {
		h.wrong(d, "container %s: want requests, a limit of memory, none of CPU", text(c, "name"))
	}
	for _, e := range items(c, "env") {
		if text(e, "name") != "GOMEMLIMIT" {
			continue
		}
		m := gomemlimit.FindStringSubmatch(text(e, "value"))
		if m == nil {
			h.wrong(d, "GOMEMLIMIT %q, want a number of MiB", text(e, "value"))
			continue
		}
		got, _ := strconv.ParseFloat(m[1], 64)
		if share := got / mebibytes(limit); share < 0.8 || share > 0.9 {
			h.wrong(d, "GOMEMLIMIT is %.0f %% of the limit %s, want 80 to 90 %%", share*100, limit)
		}
	}
}

// mebibytes reads an amount in Mi or Gi; 0: something else.
func mebibytes(amount string) float64 {
	for unit, factor := range map[string]float64{"Mi": 1, "Gi": 1024} {
		if n, ok := strings.CutSuffix(amount, unit); ok {
			f, _ := strconv.ParseFloat(n, 64)
			return f * factor
		}
	}
	return 0
}

// A volume is where a container may find files.
type volume struct {
	files   []string // nil: anything, it is no ConfigMap and no Secret
	mounted bool
}

// volumes are the volumes of a Deployment's pods; what they refer to is there, or somebody makes it before.
func (h *house) volumes(d object) map[string]*volume {
	all := map[string]*volume{}
	for _, v := range items(d, "spec", "template", "spec", "volumes") {
		made := &volume{}
		all[text(v, "name")] = made
		kind, name := "ConfigMap", text(v, "configMap", "name")
		if name == "" {
			kind, name = "Secret", text(v, "secret", "secretName")
		}
		if name == "" {
			continue
		}
		if i := slices.IndexFunc(h.all, func(o object) bool { return o.kind() == kind && o.name() == name }); i >= 0 {
			made.files = slices.Sorted(maps.Keys(fields(h.all[i], "data")))
		} else if files, ok := h.external[name]; ok && kind == "Secret" {
			made.files = files
		} else {
			h.wrong(d, "volume %q: there is no %s/%s, and nobody is said to make it", text(v, "name"), kind, name)
		}
	}
	return all
}

// mounts: of volumes that are there, not inside one another, and the files that the environment names are in them.
func (h *house) mounts(d object, c any, volumes map[string]*volume) {
	at := map[string]*volume{}
	for _, m := range items(c, "volumeMounts") {
		v := volumes[text(m, "name")]
		if v == nil {
			h.wrong(d, "container %s mounts %q, which is no volume", text(c, "name"), text(m, "name"))
			continue
		}
		v.mounted = true
		at[text(m, "mountPath")] = v
		if text(m, "subPath") != "" {
			h.wrong(d, "%s is mounted by subPath: it would never see a new key", text(m, "mountPath"))
		}
	}
	for dir := range at {
		for up := path.Dir(dir); up != "/"; up = path.Dir(up) {
			if at[up] != nil {
				h.wrong(d, "%s is mounted inside of %s, which nobody can write to", dir, up)
			}
		}
	}
	for _, e := range items(c, "env") {
		name, value := text(e, "name"), text(e, "value")
		if isSecret(name) {
			h.wrong(d, "%s is a secret in the environment: name a file", name)
		}
		if !strings.HasPrefix(value, "/") {
			continue
		}
		if v := at[path.Dir(value)]; v == nil {
			h.wrong(d, "%s: nothing is mounted at %s", name, path.Dir(value))
		} else if v.files != nil && !slices.Contains(v.files, path.Base(value)) {
			h.wrong(d, "%s: %s is not among the files %s", name, path.Base(value), fmt.Sprint(v.files))
		}
	}
}
