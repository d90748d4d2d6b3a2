package pods

import (
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// binaries are built once per test binary. They stand in the user's cache, where the next run finds those that are still up to date
// and a test binary that is killed leaves nothing behind; a lock keeps test packages that run side by side from writing them at once.
var binaries struct {
	once sync.Once
	dir  string
	err  error
}

// Program is the path of one of our binaries, built if need be: with the race detector where the test has it.
func Program(t testing.TB, name string) string {
	t.Helper()
	binaries.once.Do(func() { binaries.dir, binaries.err = build() })
	if binaries.err != nil {
		t.Fatal(binaries.err)
	}
	return filepath.Join(binaries.dir, name)
}

func build() (dir string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s race=%v", root, raceBuilt)
	dir = filepath.Join(cache, "allim-pods", fmt.Sprintf("%x", h.Sum64()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make directory of binaries: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	args := []string{"build", "-buildvcs=false", "-o", dir + string(filepath.Separator)}
	if raceBuilt {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/gateway", "./cmd/publisher", "./cmd/allim")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build gateway and publisher: %w\n%s", err, out)
	}
	return dir, nil
}

// Root is the directory of the module that the test runs in.
func Root() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}
