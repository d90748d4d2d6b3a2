package main

import (
	"strings"
	"testing"

	"allim/internal/webpush"
)

func TestPushKeysAreAPair(t *testing.T) {
	var out strings.Builder
	if err := (&pushKeys{}).print(&out); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(out.String()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		got[name], _, _ = strings.Cut(value, " #")
	}
	if _, err := webpush.NewKeys(got["subject"], got["public_key"], got["private_key"]); err != nil {
		t.Errorf("%s%v", out.String(), err)
	}
}
