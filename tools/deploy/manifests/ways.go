package main

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"

	"sigs.k8s.io/yaml"
)

// ways: from each of our pods there is a way out to the Redis that its settings name, to the Sentinels and the nodes of a cluster, from publishers to webhooks and
// push services where there are settings of them, and no other but DNS.
func (h *house) ways() {
	asked, tells, where, err := h.asked()
	if err != nil {
		h.mistakes = append(h.mistakes, err.Error())
		return
	}
	for _, d := range h.all.of("Deployment") {
		if _, ours := stopBudgets[d.name()]; !ours {
			continue
		}
		out, ports := h.waysOut(d), maps.Clone(asked)
		if d.name() == "publisher" && tells != "" {
			ports[443] = tells
		}
		for _, port := range slices.Sorted(maps.Keys(ports)) {
			if !out[port] {
				h.wrong(d, "no network policy lets it out to port %d (%s)", port, ports[port])
			}
		}
		for _, port := range slices.Sorted(maps.Keys(out)) {
			if _, wanted := ports[port]; !wanted && port != 53 {
				h.wrong(d, "a network policy lets it out to port %d, which %s does not name", port, where)
			}
		}
	}
}

// waysOut are the ports that a Deployment's pods may go to, wherever that is.
func (h *house) waysOut(d object) map[int64]bool {
	out := map[int64]bool{}
	for _, n := range h.all.of("NetworkPolicy") {
		if !slices.Contains(items(n, "spec", "policyTypes"), any("Egress")) || !bears(fields(d, "spec", "template", "metadata", "labels"), fields(n, "spec", "podSelector", "matchLabels")) {
			continue
		}
		for _, rule := range items(n, "spec", "egress") {
			if len(items(rule, "ports")) == 0 {
				h.wrong(n, "lets out to every port")
			}
			for _, p := range items(rule, "ports") {
				out[number(p, "port")] = true
			}
		}
	}
	return out
}

// asked are the ports that the settings name, each with the setting, which setting has publishers tell somebody outside, if any, and which ConfigMap says so.
func (h *house) asked() (ports map[int64]string, tells, where string, err error) {
	i := slices.IndexFunc(h.all.of("ConfigMap"), func(o object) bool { return fields(o, "data")["allim.yaml"] != nil })
	if i < 0 {
		return nil, "", "", fmt.Errorf("no ConfigMap has allim.yaml")
	}
	config := h.all.of("ConfigMap")[i]
	var s struct {
		Redis struct {
			URL      string
			Sentinel struct{ Addresses []string }
			Cluster  struct{ Addresses []string }
		}
		Webhooks []any
		HooksAt  string `json:"webhooks_file"`
		Push     map[string]any
	}
	if err := yaml.Unmarshal([]byte(text(config, "data", "allim.yaml")), &s); err != nil {
		return nil, "", "", fmt.Errorf("read %s: %w", config, err)
	}
	ports = map[int64]string{}
	add := func(port, setting string) {
		n, e := strconv.ParseInt(port, 10, 64)
		if e != nil {
			err = fmt.Errorf("%s: %s: want host and port", config, setting)
		}
		ports[n] = setting
	}
	u, e := url.Parse(s.Redis.URL)
	if e != nil || u.Port() == "" {
		return nil, "", "", fmt.Errorf("%s: redis.url: want host and port", config)
	}
	add(u.Port(), "redis.url") // behind Sentinels, too: servers have one port
	for setting, addresses := range map[string][]string{"redis.sentinel.addresses": s.Redis.Sentinel.Addresses, "redis.cluster.addresses": s.Redis.Cluster.Addresses} {
		for _, a := range addresses {
			_, port, _ := net.SplitHostPort(a)
			add(port, setting)
		}
	}
	switch {
	case len(s.Webhooks) > 0:
		tells = "webhooks"
	case s.HooksAt != "":
		tells = "webhooks_file"
	case len(s.Push) > 0:
		tells = "push"
	}
	return ports, tells, config.String(), err
}
