//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	spareFiles = 800 // descriptors that a gateway or the generator needs besides its connections
	anyCore    = -1
)

// cores says where what runs. With one core, or where the kernel does not allow it, nothing is pinned.
type cores struct{ servers, rest int }

// pin puts this process on the core of the rest, and says where the servers go.
func pin() (cores, error) {
	var mine unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		return cores{anyCore, anyCore}, fmt.Errorf("read affinity: %w", err)
	}
	var free []int
	for core := range 1024 {
		if mine.IsSet(core) {
			free = append(free, core)
		}
	}
	if len(free) < 2 {
		return cores{anyCore, anyCore}, fmt.Errorf("not pinned: one core for everything")
	}
	c := cores{servers: free[0], rest: free[1]}
	for range 2 { // threads that start meanwhile inherit it from theirs
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return c, fmt.Errorf("list threads: %w", err)
		}
		for _, t := range tasks {
			id, _ := strconv.Atoi(t.Name()) // of digits
			if err := unix.SchedSetaffinity(id, set(c.rest)); err != nil && err != unix.ESRCH {
				return cores{anyCore, anyCore}, fmt.Errorf("not pinned: %w", err)
			}
		}
	}
	runtime.GOMAXPROCS(1)
	return c, nil
}

func set(core int) *unix.CPUSet {
	var s unix.CPUSet
	s.Set(core)
	return &s
}

// onCore runs f, which starts a process, on a core: the child inherits it, and Go's runtime there takes it for the whole machine.
func onCore(core int, f func() error) error {
	if core == anyCore {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("read affinity: %w", err)
	}
	if err := unix.SchedSetaffinity(0, set(core)); err != nil {
		return fmt.Errorf("set affinity: %w", err)
	}
	defer func() { _ = unix.SchedSetaffinity(0, &before) }() // it was allowed before
	return f()
}

// mostConnections is how many one process can hold, after its limit was raised as far as it goes.
func mostConnections() (int, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("read limit of open files: %w", err)
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil { // children inherit it
		return 0, fmt.Errorf("raise limit of open files: %w", err)
	}
	return int(min(l.Max, 1<<30)) - spareFiles, nil
}

// facts are what a figure depends on, by name.
func facts(root string) map[string]string {
	f := map[string]string{"go": runtime.Version(), "cores": fmt.Sprint(runtime.NumCPU()), "os": runtime.GOOS + "/" + runtime.GOARCH}
	for name, command := range map[string][]string{
		"commit": {"git", "-C", root, "rev-parse", "--short=12", "HEAD"},
		"dirty":  {"git", "-C", root, "status", "--porcelain", "--untracked-files=no"},
		"kernel": {"uname", "-r"},
		"redis":  {"redis-server", "--version"},
	} {
		if out, err := exec.Command(command[0], command[1:]...).Output(); err == nil {
			f[name] = strings.TrimSpace(string(out))
		}
	}
	if f["dirty"] != "" {
		f["dirty"] = fmt.Sprintf("%d changed files", strings.Count(f["dirty"], "\n")+1)
	}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, model, _ := strings.Cut(string(info), "model name\t: ")
		f["cpu"], _, _ = strings.Cut(model, "\n")
	}
	return f
}

// build builds what is measured, in the user's cache, where the next run finds what has not changed.
func build() (root, dir string, err error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", "", fmt.Errorf("find module: %w", err)
	}
	root = filepath.Dir(strings.TrimSpace(string(out)))
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir = filepath.Join(cache, "allim-load", fmt.Sprintf("%x", root))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("make directory of binaries: %w", err)
	}
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		return "", "", fmt.Errorf("create lock: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", "", fmt.Errorf("lock binaries: %w", err)
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", dir+string(filepath.Separator), "./cmd/gateway", "./cmd/publisher", "./test/load/naive")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("build what is measured: %w\n%s", err, out)
	}
	return root, dir, nil
}
