package archtest

import (
	"regexp"
	"strings"
	"testing"
)

// settable are the ways by which a time loses the clock that nobody can set. What lasts and is overdue is measured with that clock alone: a step of
// the other one would end every link at once, or hide for an hour that nothing comes.
var settable = regexp.MustCompile(`\.Unix(Nano|Micro|Milli)?\(\)|time\.Unix(Micro|Milli)?\(|\.Round\(0\)`)

func TestTheDeliveryBankMeasuresTimeWithAClockThatNobodyCanSet(t *testing.T) {
	seen := 0
	for name, text := range goFiles(t) {
		for _, room := range []string{"pkg/fanout/", "internal/session/", "internal/gateway/", "internal/transport/", "internal/deliver/", "internal/ops/", "internal/lifecycle/"} {
			if !strings.HasPrefix(name, room) || strings.HasSuffix(name, "_test.go") {
				continue
			}
			seen++
			if at := settable.FindIndex(text); at != nil {
				t.Errorf("%s:%d: %s", name, 1+strings.Count(string(text[:at[0]]), "\n"), text[at[0]:at[1]])
			}
		}
	}
	if seen < 30 {
		t.Errorf("looked at %d files: the check looks at the wrong place", seen)
	}
}
