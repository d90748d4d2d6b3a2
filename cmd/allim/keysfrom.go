package main

import (
	"errors"
	"os"

	"allim/internal/boot"
	"allim/internal/settings"
	"allim/pkg/auth"
)

// rulesFrom is what the servers with a settings file ask of tokens, and where their keys stand.
func rulesFrom(path string) (o auth.Options, from string, err error) {
	l, err := settings.Load(settings.Both, []string{"--config", path}, os.Environ())
	keys, wrongKeys := boot.Keys(l.Keys)
	_, public, wrongTopics := boot.Classes(l.Topics)
	return auth.Options{Keys: keys, Audience: l.Audience, Public: public, OnlyMine: !l.Segments.All}, l.Source("keys"), boot.Mistakes(l, err, errors.Join(wrongKeys, wrongTopics))
}
