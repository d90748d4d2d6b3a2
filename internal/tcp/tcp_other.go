//go:build !linux

package tcp

func (Options) set(uintptr) error { return nil }
