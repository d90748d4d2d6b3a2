package settings

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Loaded is the settings as they were given, and where each of them stands.
type Loaded struct {
	Settings
	Program string
	Command string // of the command line: "serve", "healthcheck", "config check", "config print" or "config defaults"
	Help    string // to be shown instead of doing anything; "": do it
	Version bool   // the version is to be shown

	sources map[string]string // by path
}

// Load reads arguments, environment (as os.Environ has it) and files for a program; with Both, for neither alone. The error is *Mistakes: all of
// them. What could be read is returned all the same.
func Load(program string, args, environ []string) (*Loaded, error) {
	l := &Loaded{Program: program, sources: map[string]string{}}
	r := &reader{Loaded: l, env: map[string]string{}}
	given := r.flags(args)
	if l.Help != "" || l.Version {
		return l, nil
	}
	r.defaults()
	r.environment(environ)
	config, from := given[configFlag], "flag --config"
	if config == nil && r.env["ALLIM_CONFIG"] != "" {
		config, from = []string{r.env["ALLIM_CONFIG"]}, "environment ALLIM_CONFIG"
	}
	if config != nil {
		r.file(config[len(config)-1], from)
	}
	for _, one := range l.leaves() {
		if text := r.env[one.env()]; text != "" {
			r.text(one, []string{text}, "environment ", one.env())
		}
	}
	for _, one := range l.leaves() { // after all of the environment: a flag beats also the other form of a setting there
		if texts := given[one.flag()]; texts != nil {
			r.text(one, texts, "flag --", one.flag())
		}
	}
	r.lists()
	r.contents()
	if len(r.mistakes.List) > 0 {
		return l, &r.mistakes
	}
	return l, nil
}

// Source is where the setting at path, or the nearest thing around it, was given; "" where it was not.
func (l *Loaded) Source(path string) string {
	for path != "" {
		if s := l.sources[path]; s != "" {
			return s
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return ""
}

// Differ names the settings in which two sets differ, besides those in except.
func Differ(a, b *Settings, except ...string) (paths []string) {
	others := b.leaves()
	for i, l := range a.leaves() {
		bothEmpty := l.v.Kind() == reflect.Slice && l.v.Len() == 0 && others[i].v.Len() == 0 // [] and nothing are one
		if !bothEmpty && !slices.Contains(except, l.path) && !reflect.DeepEqual(l.v.Interface(), others[i].v.Interface()) {
			paths = append(paths, l.path)
		}
	}
	return paths
}

// A reader fills Loaded.
type reader struct {
	*Loaded
	env      map[string]string // what begins with ALLIM_
	mistakes Mistakes
}

func (r *reader) defaults() {
	for _, l := range r.leaves() {
		if text := l.fallback(r.Program); text != "" {
			if want := set(l.v, text, l.tag); want != "" {
				panic("settings: default of " + l.path + ": expected " + want) // the reference itself is wrong
			}
		}
	}
}

// Variables that are no settings: those of `allim`, the command line for people.
var notOurs = []string{"ALLIM_SECRET", "ALLIM_KEY", "ALLIM_TOKEN", "ALLIM_PUBLISHER", "ALLIM_PUBLISHER_TLS", "ALLIM_PUBLISHER_CA_FILE", "ALLIM_GATEWAY"}

// serviceLink is what Kubernetes puts into the environment of pods beside a Service that is called allim-….
var serviceLink = regexp.MustCompile(`_SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)

func isServiceLink(name, text string) bool {
	return serviceLink.MatchString(name) || strings.HasSuffix(name, "_PORT") && strings.Contains(text, "://")
}

func (r *reader) environment(environ []string) {
	known := append(slices.Clone(notOurs), "ALLIM_CONFIG")
	for _, l := range r.leaves() {
		known = append(known, l.env())
	}
	for _, e := range environ {
		name, text, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "ALLIM_") {
			continue
		}
		if !slices.Contains(known, name) && !isServiceLink(name, text) {
			r.mistakes.add("environment "+name, "", "unknown"+meant(name, known))
		}
		r.env[name] = text
	}
}

func (r *reader) file(path, from string) {
	text, err := readFile(path, maxFile)
	if err != nil {
		r.mistakes.unread(from, err.Error())
		return
	}
	r.yaml(path, text, "", reflect.ValueOf(&r.Settings).Elem())
}

// yaml decodes a file's text into v, whose files are beside it.
func (r *reader) yaml(file string, text []byte, path string, v reflect.Value) {
	at := func(line int) string { return fmt.Sprintf("%s:%d", file, line) }
	n, err := parse(text)
	if err != nil {
		source, why := file, err.Error()
		if m := inLine.FindStringSubmatch(why); m != nil {
			source, why = file+":"+m[1], m[2]
		}
		r.mistakes.unread(source, why)
	}
	if err != nil || n == nil {
		return
	}
	(&decoder{at: at, mistakes: &r.mistakes, sources: r.sources}).value(n, path, v, "")
	files(v, func(p string) string { return beside(filepath.Dir(file), p) })
}

// inLine is what the YAML library says before a mistake whose line it knows.
var inLine = regexp.MustCompile(`^line ([0-9]+): (.*)$`)

// files gives every path in v to place.
func files(v reflect.Value, place func(string) string) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() != reflect.String {
				files(f, place)
			} else if strings.HasSuffix(v.Type().Field(i).Tag.Get("name"), "_file") {
				f.SetString(place(f.String()))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			files(v.Index(i), place)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			files(v.Elem(), place)
		}
	}
}

// text sets what the environment or flags say of a setting: in their place, all that a weaker source said of it is forgotten.
// A setting and its form that ends in _file are one: a weaker source's other form is forgotten too.
func (r *reader) text(l leaf, texts []string, place, name string) {
	last, source := texts[len(texts)-1], place+name
	for _, other := range r.leaves() {
		if (other.path == l.path+"_file" || other.path+"_file" == l.path) && !strings.HasPrefix(r.sources[other.path], place) {
			other.v.SetZero()
			r.forget(other.path)
		}
	}
	r.forget(l.path)
	r.sources[l.path] = source
	switch t := l.v.Type(); {
	case isScalar(t):
		if want := set(l.v, last, l.tag); want != "" {
			r.mistakes.add(source, l.path, "expected "+want+not(l.v, last))
		}
	case isList(t):
		l.v.SetZero()
		for _, text := range texts {
			for one := range strings.SplitSeq(text, ",") {
				l.v.Set(reflect.Append(l.v, reflect.ValueOf(strings.TrimSpace(one))))
			}
		}
	default:
		l.v.SetZero()
		n, err := parse([]byte(last))
		if err != nil {
			r.mistakes.add(source, l.path, err.Error())
		}
		if err == nil && n != nil {
			d := &decoder{at: func(int) string { return source }, mistakes: &r.mistakes, sources: r.sources}
			d.value(n, l.path, l.v, l.tag)
		}
	}
}

// forget drops where a setting and all below it stand.
func (r *reader) forget(path string) {
	maps.DeleteFunc(r.sources, func(p, _ string) bool {
		return p == path || strings.HasPrefix(p, path+".") || strings.HasPrefix(p, path+"[")
	})
}

// lists reads the files that hold whole lists.
func (r *reader) lists() {
	for _, one := range []struct {
		path, file string
		of         string
		into       any
		given      bool
	}{
		{"keys", r.KeysFile, Both, &r.Keys, len(r.Keys) > 0},
		{"api_keys", r.APIFile, Publisher, &r.APIKeys, len(r.APIKeys) > 0},
		{"webhooks", r.HooksFile, Publisher, &r.Webhooks, len(r.Webhooks) > 0},
	} {
		if one.file == "" || one.of != Both && r.Program != Both && one.of != r.Program {
			continue // a secret of the other program's may not even be readable here
		}
		source := r.sources[one.path+"_file"]
		if one.given {
			r.mistakes.add(source, one.path+"_file", "expected none beside "+one.path+", which is given at "+r.sources[one.path])
			continue
		}
		text, err := readFile(one.file, maxFile)
		if err != nil {
			r.mistakes.add(source, one.path+"_file", err.Error())
			continue
		}
		r.yaml(one.file, text, one.path, reflect.ValueOf(one.into).Elem())
	}
}

// contents reads the secrets and keys that stand in files of their own.
func (r *reader) contents() {
	for i := range r.Keys {
		k := &r.Keys[i]
		at := fmt.Sprintf("keys[%d].", i)
		r.content(at+"secret", k.SecretFile, (*string)(&k.Secret))
		r.content(at+"public_key", k.PublicKeyFile, &k.PublicKey)
	}
	if r.Program == Gateway {
		return
	}
	for i := range r.APIKeys {
		k := &r.APIKeys[i]
		r.content(fmt.Sprintf("api_keys[%d].key", i), k.KeyFile, (*string)(&k.Key))
	}
	for i := range r.Webhooks {
		w := &r.Webhooks[i]
		r.content(fmt.Sprintf("webhooks[%d].secret", i), w.SecretFile, (*string)(&w.Secret))
	}
	r.content("push.private_key", r.Push.PrivateKeyFile, (*string)(&r.Push.PrivateKey))
}

func (r *reader) content(path, file string, into *string) {
	if file == "" {
		return
	}
	source := r.Source(path + "_file")
	if *into != "" {
		r.mistakes.add(source, path+"_file", "expected none beside "+path[strings.LastIndex(path, ".")+1:])
		return
	}
	text, err := readFile(file, maxSecret)
	if err != nil {
		r.mistakes.add(source, path+"_file", err.Error())
		return
	}
	if *into = strings.TrimRight(string(text), "\r\n"); *into == "" {
		r.mistakes.add(source, path+"_file", file+": expected something in it")
	}
}
