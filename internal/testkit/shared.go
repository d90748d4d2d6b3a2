package testkit

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
)

// shared is the cluster of all tests of a package that ask for one: starting one takes seconds.
var shared struct {
	sync.Mutex // guards the fields below; held while the cluster starts
	cluster    *RedisCluster
	cleanups   []func()
}

// SharedCluster is a cluster of three masters for tests that only write and read and are not parallel: it is empty at first, and the next test
// has it then. It ends with the package, whose TestMain is testkit.Main. Whoever breaks a cluster starts one of its own.
func SharedCluster(t testing.TB) *RedisCluster {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		shared.cluster = Cluster(packageTB{TB: t}, 3, 0)
	}
	c := &RedisCluster{Nodes: shared.cluster.Nodes, tb: t}
	for _, s := range c.Nodes {
		s.tb = t
		s.must("FLUSHALL")
		s.must("SCRIPT", "FLUSH")
	}
	return c
}

// endShared ends it; Main does, before it looks for what is left over.
func endShared() {
	shared.Lock()
	defer shared.Unlock()
	for _, f := range slices.Backward(shared.cleanups) {
		f()
	}
	shared.cluster, shared.cleanups = nil, nil
}

// A packageTB is a test whose cleanups run when the package ends.
type packageTB struct{ testing.TB }

// Cleanup is of testing.TB.
func (packageTB) Cleanup(f func()) { shared.cleanups = append(shared.cleanups, f) }

// TempDir is of testing.TB.
func (p packageTB) TempDir() string {
	p.Helper()
	dir, err := os.MkdirTemp("", "allim")
	if err != nil {
		p.Fatal(fmt.Errorf("make directory: %w", err))
	}
	p.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
