package session_test

import (
	"slices"
	"strings"
	"time"

	"allim/internal/store"
	"allim/pkg/notify"
)

// change does what publishers do to items that are there, and with segments; false: it is no such step.
func (st *stage) change(f []string, args map[string]string) bool {
	st.t.Helper()
	names := map[string]string{"update": "update", "retract": "retract", "tell": "tell", "retell": "update", "untell": "retract"}
	what := names[f[0]]
	if what == "" {
		return false
	}
	topic, err := notify.UserTopic(f[1])
	if strings.HasSuffix(f[0], "tell") {
		topic, err = notify.ParseTopic("segment:" + f[1])
	}
	if err != nil {
		st.t.Fatal(err)
	}
	to := []notify.Stream{{Tenant: "default", Topic: topic}}
	switch what {
	case "tell":
		m := &notify.Message{Change: notify.ChangeNotification, ID: f[2], Category: strings.Trim(f[3], "-"), Time: time.Now(), Data: []byte(f[4]), Origin: args["origin"]}
		if terms := (notify.Terms{Collapse: args["collapse"], Mandatory: slices.Contains(f, "mandatory")}); terms != (notify.Terms{}) {
			m.Terms = &terms
		}
		st.ok(st.writer.Write(st.ctx, to, m, store.Committed))
	case "update":
		st.ok(st.writer.Update(st.ctx, to, store.UpdateOf{ID: f[2], Data: []byte(f[3]), Origin: args["origin"]}, store.Committed))
	default:
		st.ok(st.writer.Retract(st.ctx, to, store.RetractOf{ID: f[2], Origin: args["origin"]}, store.Committed))
	}
	return true
}
