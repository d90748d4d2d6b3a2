package settings

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
)

const configFlag = "config"

// about is the help's introduction.
var about = map[string]string{
	Gateway:   "What browsers connect to: WebSocket on the public port, behind it Redis pub/sub. Run as many as there are connections.\n\n",
	Publisher: "What backends call: gRPC and JSON over HTTP, in front of Redis. Run as many as there are calls.\n\n",
}

const howToSet = "Every setting has one name: --redis-url as a flag is ALLIM_REDIS_URL in the environment and url under redis in the settings file (YAML). " +
	"A flag beats the environment, that the file, that the default. One file can serve gateway and publisher. " +
	"`config defaults` prints a file with everything in it, `config check` finds all mistakes at once, `config print` says what counts and where it comes from."

// flags reads the command line and returns what its flags were given, by name. Every unknown one is a mistake, not only the first.
func (r *reader) flags(args []string) map[string][]string {
	for { // once more for every unknown flag
		shown := &strings.Builder{}
		asked := false
		target := reflect.New(r.grammar())
		parser, err := kong.New(target.Interface(), kong.Name(r.Program), kong.Description(about[r.Program]+howToSet), kong.Writers(shown, shown),
			kong.Exit(func(int) { asked = true }), kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 120, NoExpandSubcommands: true}))
		if err != nil {
			panic(fmt.Sprintf("settings: %v", err)) // the reference itself is wrong
		}
		parsed, err := parser.Parse(args)
		if asked {
			r.Help = shown.String()
			return nil
		}
		if rest, ok := without(args, err); ok {
			name, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "unknown flag "), ",")
			r.mistakes.add("flag "+name, "", "unknown"+meant(name, r.flagNames()))
			args = rest
			continue
		}
		if err != nil {
			r.mistakes.unread("command line", err.Error())
			return nil
		}
		r.Command = parsed.Command()
		return r.texts(target.Elem())
	}
}

// texts reads what kong has filled in.
func (r *reader) texts(filled reflect.Value) map[string][]string {
	given := map[string][]string{}
	r.Version = filled.FieldByName("Version").Bool()
	for i := range filled.NumField() {
		if texts, ok := filled.Field(i).Interface().([]string); ok && len(texts) > 0 {
			given[filled.Type().Field(i).Tag.Get("name")] = texts
		}
	}
	return given
}

// grammar is the struct that kong fills: every flag takes text, which is read like that of every other source.
func (r *reader) grammar() reflect.Type {
	text := reflect.TypeFor[[]string]()
	flag := func(name, hint, group, help string) reflect.StructField {
		return reflect.StructField{Name: "F" + strings.ReplaceAll(name, "-", "_"), Type: text,
			Tag: reflect.StructTag(fmt.Sprintf("name:%q sep:\"none\" placeholder:%q group:%q help:%q", name, hint, group, help))}
	}
	fields := []reflect.StructField{
		{Name: "Serve", Type: reflect.TypeFor[struct{}](), Tag: `cmd:"" default:"1" help:"Run. So does no word at all."`},
		{Name: "Settings", Type: reflect.TypeFor[struct {
			Check    struct{} `cmd:"" help:"Find every mistake in flags, environment and files, then end."`
			Print    struct{} `cmd:"" help:"Print the settings that count and where each comes from, secrets hidden."`
			Defaults struct{} `cmd:"" help:"Print a settings file with every setting, its default and what it means."`
		}](), Tag: `cmd:"" name:"config" help:"Check or show the settings."`},
		{Name: "Health", Type: reflect.TypeFor[struct{}](), Tag: `cmd:"" name:"healthcheck" help:"Ask the program that runs here with these settings whether it is ready; exit code 0: yes. For containers without a shell."`},
		{Name: "Version", Type: reflect.TypeFor[bool](), Tag: `help:"Show version, commit and Go."`},
		flag(configFlag, "FILE", "Settings", "Settings file (YAML)."),
	}
	for _, l := range r.leaves() {
		if !l.isFor(r.Program) {
			continue
		}
		help := l.tag.Get("help")
		if text := l.fallback(r.Program); text != "" {
			help += " (" + text + ")"
		}
		fields = append(fields, flag(l.flag(), hint(l), "Settings", help))
	}
	return reflect.StructOf(fields)
}

func (r *reader) flagNames() []string {
	names := []string{"--" + configFlag, "--help", "--version"}
	for _, l := range r.leaves() {
		if l.isFor(r.Program) {
			names = append(names, "--"+l.flag())
		}
	}
	return names
}

func hint(l leaf) string {
	if h := l.tag.Get("hint"); h != "" {
		return h
	}
	switch reflect.Zero(l.v.Type()).Interface().(type) {
	case Duration:
		return "TIME"
	case Size:
		return "SIZE"
	case int:
		return "N"
	case bool:
		return "BOOL"
	}
	return strings.ToUpper(l.path[strings.LastIndexAny(l.path, ".")+1:])
}

// without is args without the flag that err says is unknown, and the value that seems to be its own.
func without(args []string, err error) ([]string, bool) {
	var pe *kong.ParseError
	if !errors.As(err, &pe) || !strings.HasPrefix(err.Error(), "unknown flag ") {
		return nil, false
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "unknown flag "), ",")
	for i, a := range args {
		if given, _, joined := strings.Cut(a, "="); given == name || !strings.HasPrefix(name, "--") && strings.HasPrefix(a, name) {
			rest := append(append([]string{}, args[:i]...), args[i+1:]...)
			if !joined && i < len(rest) && !strings.HasPrefix(rest[i], "-") && rest[i] != "config" {
				rest = append(rest[:i], rest[i+1:]...)
			}
			return rest, true
		}
	}
	return nil, false
}
