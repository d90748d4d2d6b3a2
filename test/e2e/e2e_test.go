// Package e2e is Allim seen from outside: backends call a publisher, clients and browsers connect to gateways, all of them processes of
// their own in front of a real Redis.
package e2e

import (
	"testing"

	"allim/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
