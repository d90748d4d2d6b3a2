package testkit

import "syscall"

// dieWithParent has the kernel kill a child when the test binary dies without
// its cleanups: a timeout's panic, a kill -9.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
