// Command publisher is what backends call: gRPC and the same calls as JSON over HTTP, in front of Redis. Run as many as there are calls; they
// share nothing but Redis.
package main

import (
	"os"

	"allim/internal/boot"
	"allim/internal/settings"
)

func main() { os.Exit(boot.Main(settings.Publisher, os.Args[1:], prepare)) }
