//go:build !linux

package testkit

import "syscall"

// dieWithParent has no equivalent here: a child outlives a test binary that is
// killed.
func dieWithParent() *syscall.SysProcAttr { return nil }
