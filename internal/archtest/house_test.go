package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"allim/internal/testkit"
)

const root = "../.." // of the module, seen from this package

func TestMain(m *testing.M) { testkit.Main(m) }

func TestEveryImportGoesThroughADoor(t *testing.T) {
	cmd := exec.Command("go", "list", "-tags=fault", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("read go list: %v", err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 3 {
		t.Fatalf("go list names %d packages: the check looks at the wrong place", len(packages))
	}
	for _, b := range checkImports(rooms, packages) {
		t.Error(b)
	}
}

// goFiles are all of ours, by slash-separated path under the module.
func goFiles(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && (name == "node_modules" || name == "testdata" || strings.HasPrefix(name, ".") && path != root) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files["internal/archtest/house_test.go"]) == 0 {
		t.Fatal("this very file was not found: the check looks at the wrong place")
	}
	return files
}

func TestEveryFileKeepsTheRulesOfTheHouse(t *testing.T) {
	for _, b := range checkFiles(goFiles(t), withoutLeakCheck) {
		t.Error(b)
	}
}
