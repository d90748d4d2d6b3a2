// Package settings reads the settings file that gateway, publisher and the command line share: one YAML file in which an unknown
// name is an error. What the values mean is checked by the rooms that they are for.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	maxFile   = 4 << 20  // bytes of a settings file
	maxSecret = 64 << 10 // bytes of a file that a setting names
)

// A File is what the settings file says. Its zero value is a file that says nothing; zero fields take the default of whoever
// they are for. A program ignores what is for another one, so one file serves all of them.
type File struct {
	Redis      string   `yaml:"redis"`      // redis:// or rediss:// URL
	Partitions int      `yaml:"partitions"` // fixed for the life of a Redis
	PublicURL  string   `yaml:"public_url"` // of the gateway, as browsers see it
	Origins    []string `yaml:"origins"`    // that pages may come from, exact: https://app.example.com
	Hosts      []string `yaml:"hosts"`      // that the gateway answers to
	Audience   string   `yaml:"audience"`   // that clients' tokens must name
	Keys       []Key    `yaml:"keys"`
	APIKeys    []APIKey `yaml:"api_keys"`
	Topics     []Class  `yaml:"topics"`
	Inbox      Inbox    `yaml:"inbox"`
	Anonymous  *Grant   `yaml:"anonymous"` // nil: everybody needs a token
}

// A Key verifies tokens: with a secret, or with a public key in PEM. Load has read the files.
type Key struct {
	ID            string   `yaml:"id"`
	Issuer        string   `yaml:"issuer"`
	Algorithm     string   `yaml:"algorithm"`
	Secret        Secret   `yaml:"secret"`
	SecretFile    string   `yaml:"secret_file"`
	PublicKeyFile string   `yaml:"public_key_file"`
	PublicKey     string   `yaml:"public_key"` // PEM
	Tenants       []string `yaml:"tenants"`
}

// An APIKey is a backend's credential. Load has read the file.
type APIKey struct {
	ID      string   `yaml:"id"`
	Key     Secret   `yaml:"key"`
	KeyFile string   `yaml:"key_file"`
	Tenant  string   `yaml:"tenant"`
	Allow   []string `yaml:"allow"`
}

// A Class is the history of the topics whose names begin with Prefix.
type Class struct {
	Prefix  string   `yaml:"prefix"`
	History int      `yaml:"history"` // messages
	TTL     Duration `yaml:"ttl"`
}

// Inbox bounds the inboxes.
type Inbox struct {
	Size      int      `yaml:"size"` // items per user
	Retention Duration `yaml:"retention"`
}

// A Grant is what clients without a token may do.
type Grant struct {
	Subscribe []string `yaml:"subscribe"`
	Hear      []string `yaml:"hear"`
	Send      []string `yaml:"send"`
}

// A Secret does not show itself when it is printed, logged or written as YAML.
type Secret string

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(secret)"
}

// GoString hides the secret.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalYAML hides the secret.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// MarshalJSON hides the secret, also from JSON logs.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(s.GoString()), nil }

// A Duration is written as "5m", "36h" or "90d": a number needs its unit.
type Duration time.Duration

// UnmarshalYAML reads a duration.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	var v time.Duration
	days, ok := strings.CutSuffix(n.Value, "d")
	count, err := strconv.ParseUint(days, 10, 16)
	if ok && err == nil {
		v = time.Duration(count) * 24 * time.Hour
	} else if v, err = time.ParseDuration(n.Value); err != nil || n.Kind != yaml.ScalarNode || n.Tag != "!!str" || v < 0 {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: expected a duration such as 5m, 36h or 90d, not %q", n.Line, n.Value)}}
	}
	*d = Duration(v)
	return nil
}

// MarshalYAML writes a duration as it is read.
func (d Duration) MarshalYAML() (any, error) { return time.Duration(d).String(), nil }

// Load reads the file at path and the files that it names, which are looked for beside it. Path "" is the empty file. Its error
// joins every mistake.
func Load(path string) (*File, error) {
	if path == "" {
		return &File{}, nil
	}
	text, err := readAtMost(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	f, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read settings %s: %w", path, err)
	}
	if err := f.readFiles(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("read settings %s: %w", path, err)
	}
	return f, nil
}

// Parse reads the text of a settings file. The files that it names stay unread.
func Parse(text []byte) (*File, error) {
	f := &File{}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(f); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("expected one YAML document")
	}
	return f, nil
}

func (f *File) readFiles(dir string) error {
	var errs []error
	read := func(field, path string, into *string) {
		if path == "" {
			return
		}
		if *into != "" {
			errs = append(errs, fmt.Errorf("%s: the value itself is given too", field))
			return
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		text, err := readAtMost(path, maxSecret)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
		*into = strings.TrimRight(string(text), "\r\n")
	}
	for i := range f.Keys {
		k := &f.Keys[i]
		read(fmt.Sprintf("keys[%d].secret_file", i), k.SecretFile, (*string)(&k.Secret))
		read(fmt.Sprintf("keys[%d].public_key_file", i), k.PublicKeyFile, &k.PublicKey)
	}
	for i := range f.APIKeys {
		k := &f.APIKeys[i]
		read(fmt.Sprintf("api_keys[%d].key_file", i), k.KeyFile, (*string)(&k.Key))
	}
	return errors.Join(errs...)
}

func readAtMost(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s: more than %d bytes", path, most)
	}
	return text, err
}
