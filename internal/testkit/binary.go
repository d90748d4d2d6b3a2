package testkit

import (
	"cmp"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"testing"
)

// binary is the redis-server of all tests: the environment's REDIS_SERVER, a path or a name on PATH; without it "redis-server".
func binary() (string, error) {
	return exec.LookPath(cmp.Or(os.Getenv("REDIS_SERVER"), "redis-server"))
}

// versionOf reads what `redis-server --version` prints. What is no release says 255.255.255: newer than all.
var versionOf = regexp.MustCompile(`v=(\d+)\.(\d+)\.(\d+)`)

// version is that of the binary, as text and as numbers; "" where it does not tell.
var version = sync.OnceValues(func() (string, [2]int) {
	bin, err := binary()
	if err != nil {
		return "", [2]int{}
	}
	out, _ := exec.Command(bin, "--version").Output() // without it nothing matches
	found := versionOf.FindStringSubmatch(string(out))
	if found == nil {
		return "", [2]int{}
	}
	major, _ := strconv.Atoi(found[1]) // of digits
	minor, _ := strconv.Atoi(found[2])
	return found[0][2:], [2]int{major, minor}
})

// NeedsRedis skips a test of what a redis-server before that version does not have.
func NeedsRedis(t testing.TB, major, minor int) {
	t.Helper()
	if text, _ := version(); !atLeast(major, minor) {
		t.Skipf("needs redis-server %d.%d, found %s (REDIS_SERVER names another)", major, minor, cmp.Or(text, "none"))
	}
}

func atLeast(major, minor int) bool {
	_, v := version()
	return v[0] > major || v[0] == major && v[1] >= minor
}
