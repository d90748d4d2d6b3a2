// Command gateway keeps the browsers' connections: WebSocket on the public port, behind it Redis pub/sub. Run as many as there are
// connections; they share nothing but Redis.
package main

import (
	"os"

	"allim/internal/boot"
	"allim/internal/settings"
)

func main() { os.Exit(boot.Main(settings.Gateway, os.Args[1:], prepare)) }
