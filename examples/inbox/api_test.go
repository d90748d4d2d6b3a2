package inbox

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"

	allimv1 "allim/proto/allim/v1"
)

func TestAChangedOrderIsPublishedToAllAndNotifiedToTheOthers(t *testing.T) {
	c := open(t, nil)
	before := c.get(200, "/api/orders").Orders[0]
	if before.Status != stateNew {
		t.Fatalf("newest order: got %q, want new", before.Status)
	}
	after := c.post(200, fmt.Sprintf("/api/orders/%d/advance", before.ID), fmt.Sprintf(`{"by":"ann","version":%d}`, before.Version))
	if after.Warning != "" {
		t.Errorf("got warning %q, want none", after.Warning)
	}
	if after.Order.Status != statePacked || after.Order.ChangedBy != "Ann" || after.Order.Version <= before.Version {
		t.Errorf("got %+v, want it packed by Ann at a higher version than %d", after.Order, before.Version)
	}
	wantTold(t, c.rec, "order.updated", after.Order, "Ann packed order", "ben", "cem")
}

func TestANewOrderIsPublishedToAllAndNotifiedToTheOthers(t *testing.T) {
	c := open(t, nil)
	made := c.post(201, "/api/orders", `{"by":"ben"}`)
	wantTold(t, c.rec, "order.created", made.Order, "Ben took order", "ann", "cem")
	if listed := c.get(200, "/api/orders"); listed.Orders[0].ID != made.Order.ID || listed.Version < made.Order.Version {
		t.Errorf("got first order %d and version %d, want %d and at least %d", listed.Orders[0].ID, listed.Version, made.Order.ID, made.Order.Version)
	}
}

func wantTold(t *testing.T, rec *recorder, event string, row order, title string, users ...string) {
	t.Helper()
	published, notified := rec.told()
	if len(published) != 1 || len(notified) != 1 {
		t.Fatalf("got %d publications and %d notifications, want one of each", len(published), len(notified))
	}
	p, n := published[0], notified[0]
	if !slices.Equal(p.Topics, []string{"orders/all"}) || p.Event != event || p.Mode != allimv1.PublishRequest_EVENT {
		t.Errorf("published %v, want event %s on orders/all", p, event)
	}
	var got order
	if err := json.Unmarshal(p.Data, &got); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(row) {
		t.Errorf("published row %+v, want what was answered: %+v", got, row)
	}
	want := fmt.Sprintf("order-%d-%d", row.ID, row.Version)
	if p.Id != want || n.Id != want || len(want) > 64 {
		t.Errorf("ids: got %q and %q, want %q", p.Id, n.Id, want)
	}
	if !slices.Equal(n.To.Users, users) || n.Category != "order" {
		t.Errorf("notified %v in category %q, want %v in order", n.To.Users, n.Category, users)
	}
	var note notice
	if err := json.Unmarshal(n.Data, &note); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(note.Title, title) || !strings.Contains(note.Body, row.Customer) || note.URL != fmt.Sprintf("/#order-%d", row.ID) {
		t.Errorf("got notification %+v, want title %q…, the customer and the order's place", note, title)
	}
}

func TestTwoWhoPressTheSameButtonMoveTheOrderOnce(t *testing.T) {
	c := open(t, nil)
	row := c.get(200, "/api/orders").Orders[0]
	path, seen := fmt.Sprintf("/api/orders/%d/advance", row.ID), row.Version
	c.post(200, path, fmt.Sprintf(`{"by":"ann","version":%d}`, seen))
	second := c.post(409, path, fmt.Sprintf(`{"by":"ben","version":%d}`, seen))
	if second.Order.Status != statePacked || !strings.Contains(second.Message, "Ann was faster") {
		t.Errorf("got %+v, want the order as Ann packed it", second)
	}
	if published, _ := c.rec.told(); len(published) != 1 {
		t.Errorf("got %d publications, want 1", len(published))
	}
}

func TestADeliveredOrderGoesNoFurther(t *testing.T) {
	c := open(t, nil)
	row := c.get(200, "/api/orders").Orders[0]
	path := fmt.Sprintf("/api/orders/%d/advance", row.ID)
	for _, want := range []string{statePacked, stateShipped, stateDelivered} {
		row = c.post(200, path, fmt.Sprintf(`{"by":"ann","version":%d}`, row.Version)).Order
		if row.Status != want {
			t.Fatalf("got %q, want %q", row.Status, want)
		}
	}
	c.post(409, path, fmt.Sprintf(`{"by":"ann","version":%d}`, row.Version))
	c.post(404, "/api/orders/7/advance", `{"by":"ann","version":1}`)
	c.post(404, "/api/orders/x/advance", `{"by":"ann","version":1}`)
	if published, _ := c.rec.told(); len(published) != 3 {
		t.Errorf("got %d publications, want 3", len(published))
	}
}

func TestTheShopHoldsABoundedNumberOfOrders(t *testing.T) {
	s := openShop(time.Now())
	for len(s.orders) < mostOrders {
		if _, err := s.create("Ann", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.create("Ann", time.Now()); err == nil {
		t.Errorf("order %d was taken, want it refused", mostOrders+1)
	}
}

func TestVersionsGoOnWhereAnEarlierProcessEnded(t *testing.T) {
	began := time.Now()
	earlier := openShop(began)
	for range 100 {
		earlier.stamp()
	}
	rows, first := openShop(began.Add(time.Second)).list()
	for _, row := range rows {
		if row.Version <= earlier.version {
			t.Errorf("order %d: version %d, want more than %d of the process before", row.ID, row.Version, earlier.version)
		}
	}
	if first >= 1<<53 {
		t.Errorf("version %d is more than JavaScript counts exactly", first)
	}
}

func TestAMentionIsANotificationToOneColleague(t *testing.T) {
	c := open(t, nil)
	id := c.get(200, "/api/orders").Orders[0].ID
	c.post(200, "/api/mention", fmt.Sprintf(`{"by":"ann","to":"ben","text":"  could you look? <b>😀</b> ","order":%d}`, id))
	c.post(200, "/api/mention", `{"by":"ann","to":"ben","text":"could you look?"}`)
	published, notified := c.rec.told()
	if len(published) != 0 || len(notified) != 2 {
		t.Fatalf("got %d publications and %d notifications, want none and two", len(published), len(notified))
	}
	if notified[0].Id == notified[1].Id {
		t.Errorf("two mentions have the same id %q", notified[0].Id)
	}
	want := notice{Title: fmt.Sprintf("Ann mentioned you on order %d", id), Body: "could you look? <b>😀</b>", URL: fmt.Sprintf("/#order-%d", id), From: "ann"}
	var got notice
	if err := json.Unmarshal(notified[0].Data, &got); err != nil {
		t.Fatal(err)
	}
	if got != want || notified[0].Category != "mention" || !slices.Equal(notified[0].To.Users, []string{"ben"}) {
		t.Errorf("got %+v to %v in %q, want %+v to ben in mention", got, notified[0].To.Users, notified[0].Category, want)
	}
}

func TestAMentionIsCheckedBeforeItIsSent(t *testing.T) {
	c := open(t, nil)
	for _, test := range []struct{ name, body, code string }{
		{"a stranger", `{"by":"ann","to":"zoe","text":"x"}`, "bad_to"},
		{"oneself", `{"by":"ann","to":"ann","text":"x"}`, "bad_to"},
		{"no words", `{"by":"ann","to":"ben","text":" \n "}`, "bad_text"},
		{"too many words", `{"by":"ann","to":"ben","text":"` + strings.Repeat("é", mostText+1) + `"}`, "bad_text"},
		{"an order that is not", `{"by":"ann","to":"ben","text":"x","order":7}`, "no_order"},
	} {
		if got := c.post(400, "/api/mention", test.body); got.Code != test.code || got.Message == "" {
			t.Errorf("%s: got %+v, want code %s", test.name, got, test.code)
		}
	}
	c.wantNothingTold()
	c.post(200, "/api/mention", `{"by":"ann","to":"ben","text":"`+strings.Repeat("é", mostText)+`"}`)
}

func TestChangesAreTakenFromTheShopsOwnPageOnly(t *testing.T) {
	c := open(t, nil)
	const body, isJSON = `{"by":"ann"}`, "Content-Type: application/json"
	for _, test := range []struct {
		name   string
		status int
		body   string
		header []string
	}{
		{"another site", 403, body, []string{isJSON, "Sec-Fetch-Site: cross-site"}},
		{"a sister site", 403, body, []string{isJSON, "Sec-Fetch-Site: same-site"}},
		{"another origin, old browser", 403, body, []string{isJSON, "Origin: http://evil.example"}},
		{"an opaque origin", 403, body, []string{isJSON, "Origin: null"}},
		{"a form", 415, body, []string{"Content-Type: text/plain"}},
		{"no type", 415, body, nil},
		{"no JSON", 400, "by=ann", []string{isJSON}},
		{"another shape", 400, `{"by":7}`, []string{isJSON}},
		{"too much", 413, `{"by":"` + strings.Repeat("a", mostBody) + `"}`, []string{isJSON}},
		{"nobody", 403, `{}`, []string{isJSON}},
		{"a stranger", 403, `{"by":"zoe"}`, []string{isJSON}},
	} {
		if res, answer := c.do("POST", "/api/orders", test.body, test.header...); res.StatusCode != test.status {
			t.Errorf("%s: got %s %s, want %d", test.name, res.Status, answer, test.status)
		}
	}
	c.wantNothingTold()
	if res, answer := c.do("POST", "/api/orders", body, isJSON); res.StatusCode != 201 {
		t.Errorf("a program without browser headers: got %s %s, want 201", res.Status, answer)
	}
}

func TestEveryoneIsToldByOneCall(t *testing.T) {
	c := open(t, nil)
	c.post(200, "/api/everyone", `{"by":"ben","text":" Lunch is here "}`)
	published, notified := c.rec.told()
	if len(published) != 0 || len(notified) != 1 {
		t.Fatalf("got %d publications and %d notifications, want one notification", len(published), len(notified))
	}
	var got notice
	if err := json.Unmarshal(notified[0].Data, &got); err != nil {
		t.Fatal(err)
	}
	if n := notified[0]; n.To.Segment != "all" || len(n.To.Users) > 0 || n.Category != "news" || got != (notice{Title: "Ben tells everyone", Body: "Lunch is here", From: "ben"}) {
		t.Errorf("notified %v", n)
	}
	for _, body := range []string{`{"by":"ben","text":" "}`, `{"by":"ben","text":"` + strings.Repeat("é", mostText+1) + `"}`} {
		if got := c.post(400, "/api/everyone", body); got.Code != "bad_text" {
			t.Errorf("%.40s: got %+v", body, got)
		}
	}
	c.rec.onNotify = func(call int, req *allimv1.NotifyRequest) (*allimv1.NotifyResponse, error) {
		result := &allimv1.NotifyResult{Segment: &req.To.Segment}
		if call == 2 {
			result.Code = code.Code_UNAVAILABLE
		}
		return &allimv1.NotifyResponse{Id: req.Id, Results: []*allimv1.NotifyResult{result}}, nil
	}
	c.post(200, "/api/everyone", `{"by":"ben","text":"Lunch is here"}`)
	if _, notified := c.rec.told(); len(notified) != 3 || notified[1].Id != notified[2].Id || notified[2].To.Segment != "all" {
		t.Errorf("got %v, want it repeated with its id", notified)
	}
}
