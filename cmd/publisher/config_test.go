package main

import (
	"testing"
	"time"
)

// How far ahead a notification may come or expire is how long inboxes are kept: what Redis would have forgotten by then is refused.
func TestNotificationsReachAsFarAsInboxesAreKept(t *testing.T) {
	l, _, err := load(t, "--inbox-retention=7d", "--config="+file(t, goodFile))
	if err != nil {
		t.Fatal(err)
	}
	if got := options(&l.Settings).Limits.Retention; got != 7*24*time.Hour {
		t.Errorf("got %v", got)
	}
}
