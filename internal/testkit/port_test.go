package testkit

import "testing"

func TestAnAddressIsGivenOnce(t *testing.T) {
	had := map[string]bool{}
	for range 1000 { // of 12,000: without a memory some forty would come again
		addr := Address(t)
		if had[addr] {
			t.Fatalf("%s was given twice", addr)
		}
		had[addr] = true
	}
}
