// Package testkit is the leak check of this module's tests; the product's own testkit would bring the product's modules along.
package testkit

import (
	"testing"

	"go.uber.org/goleak"
)

// Main runs a package's tests and fails if a goroutine outlives them: of a process that nobody waited for, too.
func Main(m *testing.M) { goleak.VerifyTestMain(m) }
