package main

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// An alert on a metric that nobody makes never fires. The name stands in the sources as a whole, or cut where Namespace and Subsystem are put before it.
func TestAlertsAreOnMetricsThatExist(t *testing.T) {
	raw, err := os.ReadFile(under("components/monitoring/alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := yaml.YAMLToJSON(raw)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := parse(asJSON)
	if err != nil {
		t.Fatal(err)
	}
	quoted := quotedWords(t)
	if exists("allim_feed_link_upp", quoted) || exists("allim_link_up", quoted) || exists("allim_calls_total", quoted) || !exists("allim_sessions", quoted) {
		t.Error("the test can not tell a metric from none")
	}
	metrics := map[string]bool{}
	for _, g := range items(rules, "spec", "groups") {
		for _, r := range items(g, "rules") {
			expr := text(r, "expr")
			if strings.Count(expr, "(") != strings.Count(expr, ")") || text(r, "annotations", "summary") == "" || !slices.Contains([]string{"page", "ticket"}, text(r, "labels", "severity")) {
				t.Errorf("%s: %s", text(r, "alert"), expr)
			}
			for _, m := range regexp.MustCompile(`allim_[a-z_]+`).FindAllString(expr, -1) {
				metrics[m] = true
			}
		}
	}
	for _, m := range slices.Sorted(maps.Keys(metrics)) {
		if !exists(m, quoted) {
			t.Errorf("nobody makes %s", m)
		}
	}
	if len(metrics) < 10 {
		t.Errorf("only %d metrics: %v", len(metrics), metrics)
	}
}

// quotedWords are, for each file of the product's sources, the strings that could be names of metrics, or the parts of such.
func quotedWords(t *testing.T) (files []map[string]bool) {
	t.Helper()
	word := regexp.MustCompile(`"([a-z_]+)"`)
	for _, dir := range []string{"internal", "pkg"} {
		err := fs.WalkDir(os.DirFS(filepath.Join(root(), "../..", dir)), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(filepath.Join(root(), "../..", dir, path))
			words := map[string]bool{}
			for _, m := range word.FindAllSubmatch(text, -1) {
				words[string(m[1])] = true
			}
			files = append(files, words)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func exists(metric string, files []map[string]bool) bool {
	return slices.ContainsFunc(files, func(quoted map[string]bool) bool {
		if quoted[metric] {
			return true
		}
		for i, c := range metric { // a constant "allim_feed_" and what follows, or Namespace "allim", perhaps Subsystem, and Name
			if c != '_' || !quoted[metric[i+1:]] {
				continue
			}
			space, subsystem, sub := strings.Cut(metric[:i], "_")
			// a file that names the subsystem publisher gives it to all its metrics
			if quoted[metric[:i+1]] || quoted[space] && (quoted[subsystem] || !sub && !quoted["publisher"]) {
				return true
			}
		}
		return false
	})
}
