// Package auth says who somebody is and what they may do: clients by JWT, backends by API key or service JWT. It does no I/O,
// keeps no state but its keys, and is safe for concurrent use. Everything that is not expressly allowed is denied.
package auth

import (
	"errors"
	"fmt"

	"allim/pkg/notify"
)

// Bounds of credentials (contract, sections 3 and 4).
const (
	MaxToken    = 4 << 10 // bytes of a token or an API key, checked before it is parsed
	MaxHeard    = 100     // topics heard without asking: own stream, segments, notify.All among them, and hear
	MaxSegments = 20      // of them, segments
	MaxAllow    = 100     // rights of a publisher's credential
)

// PublisherAudience is the audience of service tokens. A token that names it is refused by every Verifier, and one that does
// not by every Services, whatever key signed.
const PublisherAudience = "allim-publisher"

// A refusal is a credential that is not good. It is notify.ErrUnauthorized and says no more than that to a stranger; Why is for
// logs.
type refusal struct{ why error }

func (*refusal) Error() string     { return notify.ErrUnauthorized.Error() }
func (r *refusal) Unwrap() []error { return []error{notify.ErrUnauthorized, r.why} }

// Why says, for logs only, why a credential was refused; "" where err is no refusal of this package. It holds no part of the
// credential but names of claims.
func Why(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return r.why.Error()
	}
	return ""
}

func refuse(format string, args ...any) error { return &refusal{fmt.Errorf(format, args...)} }
