package session_test

import (
	"allim/internal/store"
	"allim/pkg/notify"
)

// change does what publishers do to items that are there; false: it is no such step.
func (st *stage) change(f []string, args map[string]string) bool {
	st.t.Helper()
	if f[0] != "update" && f[0] != "retract" {
		return false
	}
	topic, err := notify.UserTopic(f[1])
	if err != nil {
		st.t.Fatal(err)
	}
	to := []notify.Stream{{Tenant: "default", Topic: topic}}
	if f[0] == "update" {
		st.ok(st.writer.Update(st.ctx, to, store.UpdateOf{ID: f[2], Data: []byte(f[3]), Origin: args["origin"]}, store.Committed))
	} else {
		st.ok(st.writer.Retract(st.ctx, to, store.RetractOf{ID: f[2], Origin: args["origin"]}, store.Committed))
	}
	return true
}
