package main

import (
	"fmt"
	"io"
	"os"

	"allim/internal/webpush"
)

// pushKeys makes the keys of Web Push, which are made once in the life of a deployment: browsers subscribe with the public one.
type pushKeys struct{}

// Run prints them as the settings file takes them.
func (c *pushKeys) Run() error { return c.print(os.Stdout) }

func (c *pushKeys) print(out io.Writer) error {
	public, private, err := webpush.Generate()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "# of publishers and gateways: the public key; of publishers alone: the private key. Who changes them has every browser subscribe anew.\n"+
		"push:\n  public_key: %s\n  private_key: %s\n  subject: mailto:you@example.com # where those who run push services reach you\n", public, private)
	return err
}
