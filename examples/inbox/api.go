package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	allimv1 "allim/proto/allim/v1"
)

const (
	mostBody = 4 << 10 // bytes of a request
	mostText = 280     // characters of a mention
)

// sameOrigin refuses changes that another site's page asks for, by Sec-Fetch-Site and Origin. Programs that send neither
// pass: they act for nobody but themselves.
func sameOrigin(next http.Handler) http.Handler {
	check := http.NewCrossOriginProtection()
	check.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusForbidden, "forbidden", "changes are taken from this shop's own page only")
	}))
	return check.Handler(next)
}

// jsonBody bounds the body of a POST and takes JSON only, which another site's form can not send.
func jsonBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if r.Method == http.MethodPost {
			kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
			if err != nil || kind != "application/json" {
				refuse(w, http.StatusUnsupportedMediaType, "not_json", "the body must be application/json")
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, mostBody)
		}
		next.ServeHTTP(w, r)
	})
}

// colleague is a user as the page may know them: without the token.
type colleague struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// session answers who one is, with a token for the gateway. A real backend does this behind its own login, and signs a
// token that lives minutes.
func (h *handler) session(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("user")
	if id == "" {
		id = h.users[0].ID
	}
	me, ok := h.user(id)
	if !ok {
		refuse(w, http.StatusNotFound, "no_user", "nobody here has that name")
		return
	}
	all := make([]colleague, len(h.users))
	for i, u := range h.users {
		all[i] = colleague{u.ID, u.Name}
	}
	answer(w, http.StatusOK, map[string]any{
		"user": colleague{me.ID, me.Name}, "users": all,
		"token": me.Token, "gateway": h.gateway, "topic": Topic, "calls": CallsTopic, "call_after_ms": h.calls.after.Milliseconds(),
	})
}

func (h *handler) listOrders(w http.ResponseWriter, _ *http.Request) {
	rows, version := h.shop.list()
	answer(w, http.StatusOK, map[string]any{"orders": rows, "version": version})
}

// createOrder takes {by}.
func (h *handler) createOrder(w http.ResponseWriter, r *http.Request) {
	var req struct{ By string }
	me, ok := h.read(w, r, &req, &req.By)
	if !ok {
		return
	}
	row, err := h.shop.create(me.Name, time.Now())
	if err != nil {
		refuse(w, http.StatusConflict, "full", fmt.Sprintf("The shop holds %d orders; restart the demo for a fresh one.", mostOrders))
		return
	}
	err = h.tell.changed(r.Context(), "order.created", row, h.others(me.ID), notice{
		Title: fmt.Sprintf("%s took order %d", me.Name, row.ID),
		Body:  row.Customer + ": " + row.what(), URL: orderURL(row.ID), From: me.ID,
	})
	answerChange(w, http.StatusCreated, row, err)
}

// advanceOrder takes {by, version}: the version that the person saw.
func (h *handler) advanceOrder(w http.ResponseWriter, r *http.Request) {
	var req struct {
		By      string
		Version int64
	}
	me, ok := h.read(w, r, &req, &req.By)
	if !ok {
		return
	}
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		refuse(w, http.StatusNotFound, "no_order", "There is no such order.")
		return
	}
	row, err := h.shop.advance(id, req.Version, me.Name, time.Now())
	switch {
	case errors.Is(err, errNoOrder):
		refuse(w, http.StatusNotFound, "no_order", fmt.Sprintf("There is no order %d.", id))
	case err != nil:
		answer(w, http.StatusConflict, map[string]any{"code": "changed", "message": whoWasFaster(row), "order": row})
	default:
		err = h.tell.changed(r.Context(), "order.updated", row, h.others(me.ID), notice{
			Title: fmt.Sprintf("%s %s order %d", me.Name, row.Status, row.ID),
			Body:  row.Customer + ": " + row.what(), URL: orderURL(row.ID), From: me.ID,
		})
		answerChange(w, http.StatusOK, row, err)
	}
}

func whoWasFaster(row order) string {
	if row.ChangedBy == "" {
		return fmt.Sprintf("Order %d is %s already.", row.ID, row.Status)
	}
	return fmt.Sprintf("%s was faster: order %d is %s.", row.ChangedBy, row.ID, row.Status)
}

// everyone takes {by, text}: one call, and one write, for however many there are.
func (h *handler) everyone(w http.ResponseWriter, r *http.Request) {
	var req struct{ By, Text string }
	me, ok := h.read(w, r, &req, &req.By)
	if !ok {
		return
	}
	text, ok := words(w, req.Text)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), tellWithin)
	defer cancel()
	_, err := h.tell.notify(ctx, &allimv1.NotifyRequest{
		Id: fmt.Sprintf("news-%d", h.shop.stamp()), To: &allimv1.Audience{Segment: "all"}, Category: "news",
	}, notice{Title: me.Name + " tells everyone", Body: text, From: me.ID})
	if err != nil {
		h.log.Error("tell everyone", "error", err)
		refuse(w, http.StatusBadGateway, "not_told", "Allim's publisher did not take it. Please try again.")
		return
	}
	answer(w, http.StatusOK, map[string]any{})
}

// words are what somebody wrote, or an answer that says what is wrong with it.
func words(w http.ResponseWriter, written string) (text string, ok bool) {
	text = strings.TrimSpace(written)
	switch n := utf8.RuneCountInString(text); {
	case n == 0:
		refuse(w, http.StatusBadRequest, "bad_text", "Write a few words first.")
	case n > mostText:
		refuse(w, http.StatusBadRequest, "bad_text", fmt.Sprintf("That is %d characters; %d fit.", n, mostText))
	default:
		return text, true
	}
	return "", false
}

// mention takes {by, to, text, order?} and is nothing but a notification: when that fails, all of it failed.
func (h *handler) mention(w http.ResponseWriter, r *http.Request) {
	var req struct {
		By, To, Text string
		Order        int
	}
	me, ok := h.read(w, r, &req, &req.By)
	if !ok {
		return
	}
	to, known := h.user(req.To)
	if !known || to.ID == me.ID {
		refuse(w, http.StatusBadRequest, "bad_to", "Choose a colleague.")
		return
	}
	text, ok := words(w, req.Text)
	switch {
	case !ok:
		return
	case req.Order != 0 && !h.shop.has(req.Order):
		refuse(w, http.StatusBadRequest, "no_order", fmt.Sprintf("There is no order %d.", req.Order))
		return
	}
	note := notice{Title: me.Name + " mentioned you", Body: text, From: me.ID}
	if req.Order != 0 {
		note.Title = fmt.Sprintf("%s mentioned you on order %d", me.Name, req.Order)
		note.URL = orderURL(req.Order)
	}
	ctx, cancel := context.WithTimeout(r.Context(), tellWithin)
	defer cancel()
	muted, err := h.tell.notify(ctx, &allimv1.NotifyRequest{
		Id: fmt.Sprintf("mention-%d", h.shop.stamp()), To: &allimv1.Audience{Users: []string{to.ID}}, Category: "mention",
	}, note)
	if err != nil {
		h.log.Error("mention a colleague", "to", to.ID, "error", err)
		refuse(w, http.StatusBadGateway, "not_told", "Allim's publisher did not take it. Please try again.")
		return
	}
	answer(w, http.StatusOK, map[string]any{"to": colleague{to.ID, to.Name}, "muted": muted > 0})
}

// read decodes the body into req and finds the colleague whom it names as its author. A real backend knows them from its
// own login; here the page says who it is.
func (h *handler) read(w http.ResponseWriter, r *http.Request, req any, by *string) (User, bool) {
	if err := json.NewDecoder(r.Body).Decode(req); err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			refuse(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the body has more than %d bytes", mostBody))
		} else {
			refuse(w, http.StatusBadRequest, "not_json", "the body is not the JSON object that this call takes")
		}
		return User{}, false
	}
	me, ok := h.user(*by)
	if !ok {
		refuse(w, http.StatusForbidden, "no_user", "the body's \"by\" names nobody of this shop")
	}
	return me, ok
}

func orderURL(id int) string { return fmt.Sprintf("/#order-%d", id) }

// answerChange answers with the changed order, and says so when it stands but others do not know of it.
func answerChange(w http.ResponseWriter, status int, row order, told error) {
	body := map[string]any{"order": row}
	if told != nil {
		body["warning"] = fmt.Sprintf("Order %d is %s, but Allim's publisher did not take the news: other pages may show it late.", row.ID, row.Status)
	}
	answer(w, status, body)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]any{"code": code, "message": message})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a person who has gone can not be answered
}
