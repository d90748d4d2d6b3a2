//go:build !linux

package pods

import "syscall"

// dieWithParent has no equivalent here: a child outlives a test binary that is killed.
func dieWithParent() *syscall.SysProcAttr { return nil }

// lock does nothing here: run one test package at a time (go test -p 1).
func lock(string) (unlock func(), err error) { return func() {}, nil }
