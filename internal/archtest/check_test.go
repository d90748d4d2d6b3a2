package archtest

import (
	"slices"
	"strings"
	"testing"
)

// A small house, to see the check fail.
var small = []room{
	{path: "pkg/notify", standalone: true},
	{path: "internal/testkit", standalone: true},
	{path: "internal/keyspace"},
	{path: "internal/store", ours: []string{"internal/keyspace"}, outside: []string{"github.com/redis/go-redis/v9"}},
	{path: "internal/wire", never: []string{"net"}},
	{path: "internal/session", ours: []string{"internal/store", "internal/wire"}, tests: []string{"github.com/coder/websocket"}},
}

func TestForbiddenImportsAndUnlistedRoomsAreFound(t *testing.T) {
	for _, c := range []struct {
		name string
		pkg  listed
		want string // part of the one breach; empty: none
	}{
		{"a door", listed{ImportPath: "allim/internal/session", Imports: []string{"allim/internal/store", "allim/pkg/notify", "fmt"}}, ""},
		{"no door", listed{ImportPath: "allim/internal/store", Imports: []string{"allim/internal/session"}}, "internal/store must not import allim/internal/session"},
		{"only through another room", listed{ImportPath: "allim/internal/session", Imports: []string{"allim/internal/keyspace"}}, "no door"},
		{"a standalone room needs no nouns", listed{ImportPath: "allim/internal/testkit", Imports: []string{"allim/pkg/notify"}}, "no door"},
		{"a module", listed{ImportPath: "allim/internal/store", Imports: []string{"github.com/redis/go-redis/v9/maintnotifications"}}, ""},
		{"another module", listed{ImportPath: "allim/internal/session", Imports: []string{"github.com/redis/go-redis/v9"}}, "does not name that module"},
		{"a longer name is another module", listed{ImportPath: "allim/internal/store", Imports: []string{"github.com/redis/go-redis/v99"}}, "does not name that module"},
		{"what a row forbids of the standard library", listed{ImportPath: "allim/internal/wire", Imports: []string{"net/http"}}, "never"},
		{"what only begins alike", listed{ImportPath: "allim/internal/wire", Imports: []string{"netip"}}, ""},
		{"a room nobody listed", listed{ImportPath: "allim/internal/util"}, "internal/util is in no row"},
		{"testkit in production", listed{ImportPath: "allim/internal/store", Imports: []string{"allim/internal/testkit"}}, "no door"},
		{"testkit in tests", listed{ImportPath: "allim/internal/store", TestImports: []string{"allim/internal/testkit"}}, ""},
		{"a package in its own tests", listed{ImportPath: "allim/internal/store", XTestImports: []string{"allim/internal/store"}}, ""},
		{"tests reach through rooms", listed{ImportPath: "allim/internal/session", XTestImports: []string{"allim/internal/keyspace"}}, ""},
		{"tests go no other way", listed{ImportPath: "allim/internal/store", XTestImports: []string{"allim/internal/session"}}, "the tests of internal/store must not import"},
		{"a module for tests", listed{ImportPath: "allim/internal/session", TestImports: []string{"github.com/coder/websocket"}}, ""},
		{"that module in production", listed{ImportPath: "allim/internal/session", Imports: []string{"github.com/coder/websocket"}}, "does not name that module"},
	} {
		t.Run(c.name, func(t *testing.T) { wantBreach(t, checkImports(small, []listed{c.pkg}), c.want) })
	}
}

func TestARoomWithTwoRowsIsFound(t *testing.T) {
	wantBreach(t, checkImports(append(slices.Clone(small), room{path: "internal/wire"}), nil), "two rows for internal/wire")
}

// The table itself keeps the sentences of the design that it stands for.
func TestTheTableKeepsTheBanksApart(t *testing.T) {
	byPath := map[string]room{}
	for _, r := range rooms {
		byPath[r.path] = r
	}
	for _, c := range []struct {
		from string
		to   []string
	}{
		{"cmd/gateway", []string{"internal/publish", "internal/embedded", "internal/testkit", "examples/inbox"}},
		{"cmd/publisher", []string{"pkg/fanout", "internal/session", "internal/wire", "internal/transport/ws", "internal/embedded", "internal/testkit"}},
		{"cmd/allim", []string{"internal/testkit"}},
		{"internal/publish", []string{"pkg/fanout", "internal/session", "internal/wire"}},
		{"pkg/fanout", []string{"internal/store", "internal/session", "internal/wire"}},
		{"test/pods", []string{"internal/store", "pkg/fanout", "internal/session"}},
	} {
		reached := reachable(byPath, c.from)
		for _, forbidden := range c.to {
			if reached[forbidden] {
				t.Errorf("the table lets %s reach %s", c.from, forbidden)
			}
		}
	}
	for _, c := range []struct {
		module string
		rooms  []string
	}{
		{coderWS, []string{"internal/transport/ws", "test/pods", "test/load/naive", "test/e2e"}},
		{miniredis, []string{"internal/embedded"}},
		{goleak, []string{"internal/testkit"}},
	} {
		for _, r := range rooms {
			if covered(r.outside, c.module) != slices.Contains(c.rooms, r.path) {
				t.Errorf("%s in the row of %s: got %t, want it in %v alone", c.module, r.path, covered(r.outside, c.module), c.rooms)
			}
		}
	}
}

func reachable(byPath map[string]room, from string) map[string]bool {
	seen := map[string]bool{}
	var walk func(string)
	walk = func(path string) {
		for _, next := range byPath[path].ours {
			if !seen[next] {
				seen[next] = true
				walk(next)
			}
		}
	}
	walk(from)
	return seen
}

func TestFilesThatBreakTheRulesAreFound(t *testing.T) {
	const checked = "package x\nfunc TestMain(m *testing.M) { testkit.Main(m) }\n"
	long := "package x\n" + strings.Repeat("//\n", 401)
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"400 lines", map[string]string{"x/a.go": "package x\n" + strings.Repeat("//\n", 399)}, ""},
		{"402 lines", map[string]string{"x/a.go": long}, "x/a.go has 402 lines"},
		{"402 lines of a generator", map[string]string{"x/a.go": "// Code generated by y. DO NOT EDIT.\n" + long}, ""},
		{"no Go", map[string]string{"x/a.go": "pakage x"}, "expected 'package'"},
		{"a sleeping test", map[string]string{"x/a_test.go": "package x\nfunc f() { time.Sleep(1) }"}, "x/a_test.go:2:12 sleeps"},
		{"asleep in a bubble", map[string]string{"x/a_test.go": "package x\nfunc f() { synctest.Test(t, func(t *testing.T) { time.Sleep(1) }) }"}, ""},
		{"asleep after a bubble", map[string]string{"x/a_test.go": "package x\nfunc f() { synctest.Test(t, g); time.Sleep(1) }"}, "sleeps"},
		{"a sleep in production", map[string]string{"x/a.go": "package x\nfunc f() { time.Sleep(1) }"}, ""},
		{"a goroutine", map[string]string{"x/a.go": "package x\nfunc f() { go f() }"}, "starts a goroutine at x/a.go:2:12"},
		{"a goroutine of a group", map[string]string{"x/a.go": "package x\nfunc f() { wg.Go(f) }"}, "starts a goroutine"},
		{"a listener", map[string]string{"x/a.go": "package x\nfunc f() { net.Listen(a, b) }"}, "calls net.Listen"},
		{"a Redis in a test", map[string]string{"x/a_test.go": "package x\nfunc f() { testkit.Redis(t) }"}, "calls testkit.Redis"},
		{"a goroutine under the check", map[string]string{"x/a.go": "package x\nfunc f() { go f() }", "x/a_test.go": checked}, ""},
		{"a check elsewhere", map[string]string{"x/a.go": "package x\nfunc f() { go f() }", "y/a_test.go": checked}, "x has no TestMain"},
		{"a TestMain without the check", map[string]string{"x/a.go": "package x\nfunc f() { go f() }",
			"x/a_test.go": "package x\nfunc TestMain(m *testing.M) { m.Run() }"}, "no TestMain that calls"},
		{"an exempt package", map[string]string{"free/a.go": "package x\nfunc f() { go f() }"}, ""},
		{"an exempt package that got tests", map[string]string{"free/a.go": "package x\nfunc f() { go f() }", "free/a_test.go": "package x"}, "free has no TestMain"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string][]byte{}
			for name, text := range c.files {
				files[name] = []byte(text)
			}
			wantBreach(t, checkFiles(files, map[string]string{"free": "for the test"}), c.want)
		})
	}
}

func wantBreach(t *testing.T, got []string, want string) {
	t.Helper()
	if want == "" && len(got) == 0 {
		return
	}
	if want == "" || len(got) != 1 || !strings.Contains(got[0], want) {
		t.Fatalf("got %q, want one with %q", got, want)
	}
}
