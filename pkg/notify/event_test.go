package notify_test

import (
	"errors"
	"strings"
	"testing"

	"allim/pkg/notify"
)

func TestGroupsHaveShortPlainNames(t *testing.T) {
	for group, good := range map[string]bool{"": true, "billing": true, "a-1": true, strings.Repeat("a", notify.MaxGroup): true,
		strings.Repeat("a", notify.MaxGroup+1): false, "Billing": false, "a b": false, "a:b": false, "ä": false, "a\x00": false} {
		err := notify.CheckGroup(group)
		if got := err == nil; got != good || !good && !errors.Is(err, notify.ErrInvalid) {
			t.Errorf("%q: %v", group, err)
		}
	}
}
