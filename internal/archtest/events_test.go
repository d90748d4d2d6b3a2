package archtest

import "testing"

func TestMessagesThatNameNoEventAreFound(t *testing.T) {
	const page = "| event | level |\n|---|---|\n| `token_refused` | info |\n"
	for _, c := range []struct {
		name, path, code string
		page             string
		want             string // part of the one breach; empty: none
	}{
		{"an event", "x/a.go", `s.Log.Info("token_refused", "why", err)`, "", ""},
		{"an event of the table", "x/a.go", `s.Log.Info("token_refused")`, page, ""},
		{"an event that the table lacks", "x/a.go", `log.Warn("redis_gone")`, page, "x/a.go:2:21 logs redis_gone, which is not in the table"},
		{"only a part of the table's", "x/a.go", `log.Warn("token")`, page, "not in the table"},
		{"a sentence", "x/a.go", `log.Error("it went wrong")`, "", "x/a.go:2:22 logs what is no name"},
		{"a name that is put together", "x/a.go", `log.Error(name + "_failed")`, "", "no name"},
		{"a variable", "x/a.go", `o.log.Debug(name)`, "", "no name"},
		{"capitals", "x/a.go", `log.Error("Failed")`, "", "no name"},
		{"a hyphen", "x/a.go", `log.Debug("go-redis")`, "", "no name"},
		{"an empty message", "x/a.go", `log.Debug("")`, "", "no name"},
		{"at a level", "x/a.go", `l.log.Log(ctx, level, "A b")`, "", "no name"},
		{"with attributes", "x/a.go", `l.log.LogAttrs(ctx, level, "A b")`, "", "no name"},
		{"with a context", "x/a.go", `slog.InfoContext(ctx, "A b")`, "", "no name"},
		{"of another logger", "x/a.go", `o.Log.With("a", 1).Info("A b")`, "", "no name"},
		{"of the default logger", "x/a.go", `slog.Default().Info("A b")`, "", "no name"},
		{"of nobody's", "x/a.go", `http.Error(w, "A b", 500)`, "", ""},
		{"of a test", "x/a_test.go", `log.Error("A b")`, "", ""},
		{"of an example", "examples/x/a.go", `log.Error("A b")`, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantBreach(t, checkEvents(map[string][]byte{c.path: []byte("package x\nfunc f() { " + c.code + " }")}, c.page), c.want)
		})
	}
}
