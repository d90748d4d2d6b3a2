package publish

import (
	"fmt"

	"allim/pkg/auth"
	"allim/pkg/notify"
)

// An action is what a call does, for authorize.
type action byte

const (
	toPublish       action = iota + 1 // to a topic
	toNotify                          // a user, named as in the call
	toInbox                           // to read or mark an inbox of the tenant
	toNotifySegment                   // a segment, named as in the call
	toEvents                          // to hear what users of the tenant do
)

var actionNames = map[action]string{toPublish: "publish", toNotify: "notify", toInbox: "inbox", toNotifySegment: "notify", toEvents: "events"}

// authorize is the one place that says yes. What it does not know is denied, and so is everything without a principal. The
// field, which names the resource in the caller's request, is only for the message.
func authorize(p *auth.Principal, a action, resource, field string) error {
	allowed := false
	if p != nil {
		switch a {
		case toPublish:
			allowed = p.MayPublish(notify.Topic(resource))
		case toNotify:
			allowed = p.MayNotify(resource)
		case toInbox:
			allowed = p.MayInbox()
		case toNotifySegment:
			allowed = p.MayNotifySegment(resource)
		case toEvents:
			allowed = p.MayEvents()
		}
	}
	if !allowed {
		return denied(fmt.Sprintf("%s: the credential has no right %q for it", field, actionNames[a]))
	}
	return nil
}

// denied is notify.ErrForbidden with what a caller may know.
type denied string

func (d denied) Error() string { return string(d) }
func (d denied) Unwrap() error { return notify.ErrForbidden }
