package main

import (
	"errors"
	"fmt"
	"os"

	"allim/internal/boot"
	"allim/internal/deliver"
	"allim/internal/settings"
)

// configCommand looks at a settings file with the eyes of both programs.
type configCommand struct {
	Check    configCheck    `cmd:"" help:"Find every mistake in a settings file, for gateway and publisher at once."`
	Print    configPrint    `cmd:"" help:"Print the settings that count and where each comes from, secrets hidden."`
	Defaults configDefaults `cmd:"" help:"Print a settings file with every setting of both, its default and what it means."`
}

type configFile struct {
	Config string `required:"" env:"ALLIM_CONFIG" placeholder:"FILE" help:"The settings file."`
}

// load reads the file and the environment, and checks the names, the values and the keys.
func (c configFile) load() (*settings.Loaded, error) {
	l, err := settings.Load(settings.Both, []string{"--config", c.Config}, os.Environ())
	_, gateway := deliver.Configure(l)
	_, publisher := boot.NewPublisher(l)
	return l, boot.Mistakes(l, err, errors.Join(gateway, publisher))
}

type configCheck struct{ configFile }

// Run says whether the file is good.
func (c configCheck) Run() error {
	if _, err := c.load(); err != nil {
		return &mistake{err}
	}
	fmt.Println("the settings are good, for gateway and publisher")
	return nil
}

type configPrint struct{ configFile }

// Run prints what counts, also beside mistakes.
func (c configPrint) Run() error {
	l, err := c.load()
	if err != nil {
		err = &mistake{err}
	}
	return errors.Join(l.Print(os.Stdout), err)
}

type configDefaults struct{}

// Run prints the defaults.
func (configDefaults) Run() error { return settings.Defaults(os.Stdout, settings.Both) }

// A mistake is an error of whoever wrote the command or its files: exit code 2.
type mistake struct{ error }
