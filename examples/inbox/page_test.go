package inbox

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	allimv1 "allim/proto/allim/v1"
)

func TestASessionHasOnesOwnTokenAndNoOther(t *testing.T) {
	c := open(t, func(o *Options) { o.GatewayURL = "https://live.example:8443/" })
	got := c.get(200, "/api/session?user=ben")
	if got.User.ID != "ben" || got.Token != "token-of-ben" || got.Gateway != "https://live.example:8443" || got.Topic != Topic || len(got.Users) != 3 {
		t.Errorf("got %+v, want Ben's session", got)
	}
	if _, body := c.do("GET", "/api/session?user=ben", ""); strings.Contains(body, "token-of-ann") {
		t.Errorf("Ben's session holds Ann's token: %s", body)
	}
	if got := c.get(200, "/api/session"); got.User.ID != "ann" {
		t.Errorf("without a name: got %q, want the first colleague", got.User.ID)
	}
	c.get(404, "/api/session?user=zoe")
}

func TestANameThatIsNotOursGetsNothing(t *testing.T) {
	c := open(t, func(o *Options) { o.Hosts = []string{"shop.example"} })
	for host, want := range map[string]int{
		"localhost:80": 200, "127.0.0.1": 200, "[::1]:8080": 200, "[::1]": 200, "192.0.2.7:1": 200, "shop.example:443": 200, "shop.example": 200,
		"evil.example": 421, "evil.example:80": 421, "localhost.evil.example": 421, "shop.example.evil": 421,
		"127.0.0.1:1;script-src": 421,
	} {
		res, body := c.do("GET", "/api/session?user=ann", "", "Host: "+host)
		if res.StatusCode != want || (want != 200 && strings.Contains(body, "token")) {
			t.Errorf("host %s: got %s %s, want %d", host, res.Status, body, want)
		}
	}
}

func TestThePageHoldsToItsOwnPolicy(t *testing.T) {
	c := open(t, func(o *Options) { o.GatewayURL = "https://live.example" })
	res, html := c.do("GET", "/", "")
	policy := res.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "connect-src 'self' https://live.example wss://live.example;"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q allows something unsafe", policy)
	}
	if found := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script[^>]*>[^<]|(src|href)="(https?:)?//`).FindString(html); found != "" {
		t.Errorf("the page has %q, which its policy refuses", found)
	}
	same := open(t, nil)
	res, _ = same.do("GET", "/", "", "Host: localhost:8080")
	if policy := res.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "connect-src 'self' ws://localhost:8080 wss://localhost:8080;") {
		t.Errorf("policy %q, want the page's own host as ws:", policy)
	}
}

func TestEverythingThatThePageNamesIsThere(t *testing.T) {
	c := open(t, nil)
	_, html := c.do("GET", "/", "")
	names := regexp.MustCompile(`/assets/[a-z.]+`).FindAllString(html, -1)
	_, app := c.do("GET", "/assets/app.js", "")
	for _, found := range regexp.MustCompile(`from "\./([a-z.]+)"`).FindAllStringSubmatch(app, -1) {
		names = append(names, "/assets/"+found[1])
	}
	if len(names) < 12 {
		t.Fatalf("got %v, want all sheets and modules", names)
	}
	types := map[string]string{"css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
	for _, name := range names {
		res, _ := c.do("GET", name, "")
		if want := types[name[len(name)-3:]]; res.StatusCode != 200 || res.Header.Get("Content-Type") != want {
			t.Errorf("%s: got %s %q, want 200 %q", name, res.Status, res.Header.Get("Content-Type"), want)
		}
		again, _ := c.do("GET", name, "", "If-None-Match: "+res.Header.Get("ETag"))
		if again.StatusCode != 304 {
			t.Errorf("%s again: got %s, want 304", name, again.Status)
		}
	}
	for _, id := range regexp.MustCompile(`byId\("([a-z-]+)"\)`).FindAllStringSubmatch(everyModule(t), -1) {
		if !strings.Contains(html, `id="`+id[1]+`"`) {
			t.Errorf("a module asks for #%s, which the page has not", id[1])
		}
	}
	for _, path := range []string{"/assets/nothing.js", "/assets/", "/assets/..%2finbox.go", "/allim.js", "/nothing"} {
		if res, _ := c.do("GET", path, ""); res.StatusCode != 404 {
			t.Errorf("%s: got %s, want 404", path, res.Status)
		}
	}
}

func everyModule(t *testing.T) (all string) {
	t.Helper()
	p, err := loadPage()
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range p.files {
		if strings.HasSuffix(name, ".js") {
			all += string(f.body)
		}
	}
	return all
}

func TestTheClientOfAGatewayElsewhereIsHandedOn(t *testing.T) {
	size := 0
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/allim.js" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte("export const connect = 1;" + strings.Repeat(" ", size)))
	}))
	c := open(t, func(o *Options) { o.GatewayURL = gateway.URL })
	res, body := c.do("GET", "/allim.js", "")
	if res.StatusCode != 200 || body != "export const connect = 1;" || res.Header.Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Errorf("got %s %q %q, want the gateway's script", res.Status, body, res.Header.Get("Content-Type"))
	}
	size = mostScript
	if res, _ := c.do("GET", "/allim.js", ""); res.StatusCode != 502 {
		t.Errorf("a script of more than %d bytes: got %s, want 502", mostScript, res.Status)
	}
	gateway.Close()
	if res, _ := c.do("GET", "/allim.js", ""); res.StatusCode != 502 {
		t.Errorf("gateway away: got %s, want 502", res.Status)
	}
}

func TestOptionsThatCanNotWorkAreRefused(t *testing.T) {
	publisher := allimv1.NewPublisherClient(nil)
	for name, opts := range map[string]Options{
		"no publisher":     {Users: colleagues},
		"no users":         {Publisher: publisher},
		"no token":         {Publisher: publisher, Users: []User{{ID: "ann"}}},
		"the same twice":   {Publisher: publisher, Users: []User{colleagues[0], colleagues[0]}},
		"gateway scheme":   {Publisher: publisher, Users: colleagues, GatewayURL: "ws://h"},
		"gateway path":     {Publisher: publisher, Users: colleagues, GatewayURL: "http://h/v1"},
		"gateway header":   {Publisher: publisher, Users: colleagues, GatewayURL: "http://h;script-src *"},
		"gateway password": {Publisher: publisher, Users: colleagues, GatewayURL: "http://a:b@h"},
	} {
		if _, err := New(opts); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
