package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// loggers are what a *slog.Logger is called in this house.
var loggers = []string{"log", "Log", "logger", "Logger", "slog"}

// messageAt says which argument of a logger's method is the message.
var messageAt = map[string]int{
	"Debug": 0, "Info": 0, "Warn": 0, "Error": 0,
	"DebugContext": 1, "InfoContext": 1, "WarnContext": 1, "ErrorContext": 1,
	"Log": 2, "LogAttrs": 2,
}

var eventName = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)

// checkEvents holds what production code logs, in files by slash-separated path under the module, against the rule that a message is the
// name of an event, such as token_refused: operators search for it, and page, the runbook, has it in a table as "| `token_refused` |". An
// empty page is not written yet. Examples speak for themselves.
func checkEvents(files map[string][]byte, page string) (breaches []string) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "examples/") || strings.HasPrefix(name, "test/") || strings.HasPrefix(name, "internal/testkit/") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, files[name], parser.SkipObjectResolution)
		if err != nil {
			continue // checkFiles says it
		}
		ast.Inspect(file, func(n ast.Node) bool {
			message, ok := logged(n)
			if !ok {
				return true
			}
			at := set.Position(message.Pos())
			literal, ok := message.(*ast.BasicLit)
			event := ""
			if ok {
				event, _ = strconv.Unquote(literal.Value)
			}
			switch {
			case !eventName.MatchString(event):
				breaches = append(breaches, fmt.Sprintf("%s logs what is no name of an event: write it here, as in \"token_refused\"", at))
			case page != "" && !strings.Contains(page, "| `"+event+"` |"):
				breaches = append(breaches, fmt.Sprintf("%s logs %s, which is not in the table of docs/operations.md", at, event))
			}
			return true
		})
	}
	return breaches
}

// logged is the message of a call of a logger.
func logged(n ast.Node) (message ast.Expr, ok bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil, false
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil, false
	}
	at, known := messageAt[method.Sel.Name]
	if !known || len(call.Args) <= at {
		return nil, false
	}
	return call.Args[at], isLogger(method.X)
}

// isLogger goes by names: this check reads one file at a time and knows no types.
func isLogger(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return slices.Contains(loggers, x.Name)
	case *ast.SelectorExpr:
		return slices.Contains(loggers, x.Sel.Name)
	case *ast.CallExpr: // log.With(…), slog.Default()
		of, ok := x.Fun.(*ast.SelectorExpr)
		return ok && isLogger(of.X)
	}
	return false
}
