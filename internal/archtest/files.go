package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"slices"
	"strings"
)

const longestFile = 400 // lines

// opens are the functions, by package, whose results a test can leave open or
// running. A go statement and a call of a Go method (WaitGroup, errgroup) are
// found by themselves.
var opens = map[string][]string{
	"net":       {"Listen", "ListenTCP", "ListenUnix", "ListenPacket", "ListenUDP", "Dial", "DialTimeout", "DialTCP", "Pipe"},
	"httptest":  {"NewServer", "NewTLSServer", "NewUnstartedServer"},
	"http":      {"Get", "Post", "Head", "PostForm", "ListenAndServe", "Serve"},
	"os":        {"Open", "OpenFile", "Create", "CreateTemp", "Pipe", "OpenRoot"},
	"exec":      {"Command", "CommandContext"},
	"redis":     {"NewClient", "NewClusterClient", "NewFailoverClient", "NewUniversalClient", "NewRing"},
	"grpc":      {"NewClient", "NewServer", "Dial", "DialContext"},
	"websocket": {"Dial", "Accept"},
	"testkit":   {"Redis", "NewProxy"},
	"embedded":  {"Listen"},
	"pods":      {"Start"},
}

// checkFiles holds Go files, by slash-separated path under the module, against
// the rules of the house. exempt are packages that need no leak check although
// they could leak, with the reason; it counts only while they have no tests.
func checkFiles(files map[string][]byte, exempt map[string]string) (breaches []string) {
	leaky := map[string]string{} // package → what could leak, where
	tested, checked := map[string]bool{}, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, files[name], parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			breaches = append(breaches, err.Error())
			continue
		}
		if ast.IsGenerated(file) {
			continue
		}
		if n := bytes.Count(files[name], []byte("\n")); n > longestFile {
			breaches = append(breaches, fmt.Sprintf("%s has %d lines, the house allows %d: two ideas are two files", name, n, longestFile))
		}
		dir, isTest := path.Dir(name), strings.HasSuffix(name, "_test.go")
		if isTest {
			tested[dir] = true
			checked[dir] = checked[dir] || hasLeakCheck(file)
			for _, at := range bareSleeps(file) {
				breaches = append(breaches, fmt.Sprintf("%s sleeps: wait for a condition (testkit.Eventually), or use synctest", set.Position(at)))
			}
		}
		if _, known := leaky[dir]; !known {
			if what, at := firstOpening(file); what != "" {
				leaky[dir] = fmt.Sprintf("%s at %s", what, set.Position(at))
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(leaky)) {
		if checked[dir] || (exempt[dir] != "" && !tested[dir]) {
			continue
		}
		breaches = append(breaches, fmt.Sprintf("%s has no TestMain that calls testkit.Main, but %s", dir, leaky[dir]))
	}
	return breaches
}

// hasLeakCheck reports whether the file has a TestMain that calls testkit.Main
// (in testkit itself: Main).
func hasLeakCheck(file *ast.File) bool {
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv != nil || f.Name.Name != "TestMain" || f.Body == nil {
			continue
		}
		found := false
		ast.Inspect(f.Body, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				id, isIdent := call.Fun.(*ast.Ident)
				found = found || isCall(call, "testkit", "Main") ||
					isIdent && id.Name == "Main" && file.Name.Name == "testkit"
			}
			return !found
		})
		return found
	}
	return false
}

// bareSleeps are the calls of time.Sleep outside a synctest bubble, whose time
// does not pass for real.
func bareSleeps(file *ast.File) (at []token.Pos) {
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if isCall(call, "time", "Sleep") {
			at = append(at, call.Pos())
		}
		return !isCall(call, "synctest", "Test")
	})
	return at
}

func firstOpening(file *ast.File) (what string, at token.Pos) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			what, at = "starts a goroutine", n.Pos()
		case *ast.CallExpr:
			sel, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || what != "" {
				break
			}
			if sel.Sel.Name == "Go" {
				what, at = "starts a goroutine", n.Pos()
			} else if id, ok := sel.X.(*ast.Ident); ok && slices.Contains(opens[id.Name], sel.Sel.Name) {
				what, at = fmt.Sprintf("calls %s.%s", id.Name, sel.Sel.Name), n.Pos()
			}
		}
		return what == ""
	})
	return what, at
}

func isCall(call *ast.CallExpr, pkg, name string) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == pkg
}
