package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// A listed package is what `go list -json` says of it.
type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string // of files in the package
	XTestImports []string // of files in its _test package
}

// checkImports holds the packages against the table and returns each breach as
// one line that says where and why.
func checkImports(table []room, packages []listed) (breaches []string) {
	byPath := map[string]room{}
	for _, r := range table {
		if _, twice := byPath[r.path]; twice {
			breaches = append(breaches, fmt.Sprintf("the table has two rows for %s", r.path))
		}
		byPath[r.path] = r
	}
	for _, p := range packages {
		path := under(p.ImportPath)
		r, ok := byPath[path]
		if !ok {
			breaches = append(breaches, fmt.Sprintf("%s is in no row of doors.go", path))
			continue
		}
		for _, imported := range p.Imports {
			if why := r.refuses(imported); why != "" {
				breaches = append(breaches, fmt.Sprintf("%s must not import %s: %s", path, imported, why))
			}
		}
		forTests := r.withTests(byPath)
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			if why := forTests.refuses(imported); why != "" && imported != p.ImportPath {
				breaches = append(breaches, fmt.Sprintf("the tests of %s must not import %s: %s", path, imported, why))
			}
		}
	}
	return breaches
}

// refuses says why the room may not import a package; empty means that it may.
func (r room) refuses(imported string) string {
	switch {
	case isOurs(imported):
		if other := under(imported); !slices.Contains(r.ours, other) && (other != nouns || r.standalone) {
			return "no door leads there"
		}
	case isStandard(imported):
		if covered(r.never, imported) {
			return "its row says never"
		}
	case !covered(r.outside, imported):
		return "its row does not name that module"
	}
	return ""
}

// withTests is the row that the room's tests are held against: whatever room it
// reaches, its own modules, and what tests may use besides.
func (r room) withTests(byPath map[string]room) room {
	wide := room{path: r.path, standalone: r.standalone, outside: slices.Clone(r.outside)}
	seen := map[string]bool{}
	var reach func(path string)
	reach = func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		wide.ours = append(wide.ours, path)
		for _, next := range byPath[path].ours {
			reach(next)
		}
	}
	for _, next := range r.ours {
		reach(next)
	}
	for _, extra := range slices.Concat(inTests, r.tests) {
		if _, isRoom := byPath[extra]; isRoom {
			reach(extra)
		} else {
			wide.outside = append(wide.outside, extra)
		}
	}
	return wide
}

func isOurs(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

// isStandard: only the standard library's paths begin without a dot.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func under(path string) string { return strings.TrimPrefix(path, module+"/") }

// covered reports whether path is one of the roots or below one.
func covered(roots []string, path string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	})
}
