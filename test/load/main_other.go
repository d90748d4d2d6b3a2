//go:build !linux

// Command load measures what Allim costs and how fast it is. It waits for connections with epoll and reads /proc, so it needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "load: needs Linux (epoll, /proc)")
	os.Exit(1)
}
