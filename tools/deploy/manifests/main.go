// Command manifests builds what deploy/k8s describes, as `kubectl kustomize` does, and checks it without a cluster:
//
//	go run -C tools/deploy ./manifests build overlays/prod   # the YAML on stdout
//	go run -C tools/deploy ./manifests check                 # everything that is in deploy/k8s
//
// A check is two things: every object against the schema of the Kubernetes API (an unknown field is a mistake), and the objects against each other.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// root is deploy/k8s, looked for from the working directory upwards; deploy/k8s alone when it is nowhere.
var root = sync.OnceValue(func() string {
	const path = "deploy/k8s"
	dir, err := os.Getwd()
	for up := ""; err == nil && up != dir; dir, up = filepath.Dir(dir), dir {
		if _, err := os.Stat(filepath.Join(dir, path, "base")); err == nil {
			return filepath.Join(dir, path)
		}
	}
	return path
})

// kustomizations are what is checked, by its path under root. dev needs no Secret that it does not make.
var kustomizations = []string{"base", "overlays/dev", "overlays/prod"}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "build":
		objects, err := build(under(args[1]))
		if err != nil {
			return err
		}
		text, err := objects.yaml()
		if err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	case len(args) >= 1 && args[0] == "check":
		paths := args[1:]
		if len(paths) == 0 {
			paths = kustomizations
		}
		return checkAll(paths, out)
	}
	return fmt.Errorf("usage: manifests build PATH | check [PATH...]; a path is one under deploy/k8s, or absolute")
}

func under(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(root(), path)
}

// checkAll says a line for each path, and all that is wrong.
func checkAll(paths []string, out io.Writer) error {
	wrong := 0
	for _, path := range paths {
		objects, err := build(under(path))
		if err != nil {
			return err
		}
		mistakes := check(objects, path)
		for _, m := range mistakes {
			fmt.Fprintf(out, "%s: %s\n", path, m)
		}
		wrong += len(mistakes)
		fmt.Fprintf(out, "%s: %d objects, %d mistakes\n", path, len(objects), len(mistakes))
	}
	if wrong > 0 {
		return fmt.Errorf("%d mistakes", wrong)
	}
	return nil
}

// check is all that is wrong with what is applied together. Objects that are not even valid are not held against each other.
func check(objects list, path string) []string {
	if mistakes := validate(objects); len(mistakes) > 0 {
		return mistakes
	}
	if path == "overlays/dev" {
		return crossCheck(objects, nil)
	}
	return crossCheck(objects, external)
}
