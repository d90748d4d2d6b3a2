package settings

import (
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Secret does not show itself when it is printed or logged.
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

// MarshalText hides the secret, from JSON and YAML too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A URL may hold a password, which it does not show.
type URL string

// String hides the password.
func (u URL) String() string {
	parsed, err := url.Parse(string(u))
	if err != nil || parsed.Opaque != "" || parsed.Host == "" && parsed.Scheme != "unix" || strings.ContainsAny(parsed.Path+parsed.Fragment, "@") || parsed.Fragment != "" {
		return "(not a URL)" // and whatever stands in it
	}
	if parsed.RawQuery != "" {
		parsed.RawQuery = "(hidden)"
	}
	return parsed.Redacted()
}

// GoString hides the password.
func (u URL) GoString() string { return strconv.Quote(u.String()) }

// MarshalText hides the password.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// A Duration is written as 5s, 10m, 36h or 90d: a number needs its unit.
type Duration time.Duration

// String is what parseDuration reads.
func (d Duration) String() string {
	if day := Duration(24 * time.Hour); d > 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes it as it is read.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func parseDuration(text string) (Duration, bool) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return Duration(n) * Duration(24*time.Hour), err == nil
	}
	d, err := time.ParseDuration(text)
	return Duration(d), err == nil && d >= 0 && text != "0"
}

// A Size is bytes, written as 512, 64KiB, 4MiB or 1GiB.
type Size int64

var units = []struct {
	name string
	size Size
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// String is what parseSize reads.
func (s Size) String() string {
	for _, u := range units {
		if s > 0 && s%u.size == 0 {
			return fmt.Sprintf("%d%s", s/u.size, u.name)
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText writes it as it is read.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func parseSize(text string) (Size, bool) {
	unit := Size(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			text, unit = rest, u.size
			break
		}
	}
	n, err := strconv.ParseUint(text, 10, 32)
	return Size(n) * unit, err == nil && Size(n) <= math.MaxInt64/unit
}

// set reads a scalar into v, which is one of the kinds of this package. Its result is what was expected; "" when the text was good.
func set(v reflect.Value, text string, tag reflect.StructTag) (want string) {
	switch p := v.Addr().Interface().(type) {
	case *Duration:
		d, ok := parseDuration(text)
		least, most := bounds(tag, parseDuration)
		if !ok || d < least || d > most {
			return between("a duration such as 5s, 10m, 36h or 90d", least, most)
		}
		*p = d
	case *Size:
		s, ok := parseSize(text)
		least, most := bounds(tag, parseSize)
		if !ok || s < least || s > most {
			return between("a size such as 512, 64KiB or 4MiB", least, most)
		}
		*p = s
	case *slog.Level:
		for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
			if strings.EqualFold(text, l.String()) {
				*p = l
				return ""
			}
		}
		return "debug, info, warn or error"
	case *bool:
		if text != "true" && text != "false" {
			return "true or false"
		}
		*p = text == "true"
	case *int:
		parse := func(s string) (int, bool) { n, err := strconv.Atoi(s); return n, err == nil }
		n, ok := parse(text)
		least, most := bounds(tag, parse)
		if !ok || n < least || n > most {
			return between("a whole number", least, most)
		}
		*p = n
	default: // kinds of string
		if enum := tag.Get("enum"); enum != "" && !slices.Contains(strings.Split(enum, ","), text) {
			return strings.ReplaceAll(enum, ",", " or ")
		}
		v.SetString(text)
	}
	return ""
}

func bounds[T any](tag reflect.StructTag, parse func(string) (T, bool)) (least, most T) {
	for name, into := range map[string]*T{"min": &least, "max": &most} {
		n, ok := parse(tag.Get(name))
		if !ok {
			panic(fmt.Sprintf("settings: tag %s:%q", name, tag.Get(name))) // the reference itself is wrong
		}
		*into = n
	}
	return least, most
}

func between(what string, least, most any) string {
	return fmt.Sprintf("%s, from %v to %v", what, least, most)
}

// show writes a scalar as it is read; what is secret stays hidden.
func show(v reflect.Value) string {
	if l, ok := v.Interface().(slog.Level); ok {
		return strings.ToLower(l.String())
	}
	return fmt.Sprint(v.Interface())
}
