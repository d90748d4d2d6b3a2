package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// say prints what a person can try, ready to be pasted.
func (d *demo) say(out io.Writer, l []net.Listener, taken []string, c *cast) {
	at := func(i int) string { return d.at(l[i]) }
	p := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	p("")
	p("  알림  Allim is running. Ctrl-C ends it; nothing is kept.")
	p("")
	for _, t := range taken {
		p("  %s", t)
	}
	p("  Open both, side by side: what one does, the other sees.")
	for _, u := range c.users {
		p("    %-4s http://%s/?user=%s", u.Name, at(web), u.ID)
	}
	p("  Press Ask Ann in Ben's: her phone rings if she does not look at her bell in time.")
	p("")
	p("  gateway     ws://%s/v1/ws     health and metrics http://%s", at(web), at(gatewayOps))
	p("  publisher   gRPC %s   JSON http://%s   health and metrics http://%s", at(rpc), at(api), at(publisherOps))
	p("  webhook     http://%s/hook, signed: the shop's own, for who does not look", at(web))
	redis := "in this process, empty at each start"
	if d.Redis != "" {
		redis = "yours"
	}
	p("  Redis       %s", redis)
	p("")
	p("  Ring Ann's bell from another terminal, in whichever way you like:")
	p("")
	p("    %s notify --publisher %s --key %s --to ann --title 'Your tea is here'", self(), at(rpc), c.yourKey)
	p("")
	p("    curl -s http://%s/v1/notify -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' -d '%s'", at(api), c.yourKey,
		`{"id":"curl-1","to":{"users":["ann"]},"category":"tea","data":{"title":"Hello from curl"}}`)
	p("")
	p("    grpcurl -plaintext -H 'Authorization: Bearer %s' -d '%s' %s allim.v1.Publisher/Notify", c.yourKey,
		`{"id":"grpcurl-1","to":{"users":["ann"]},"data":"`+base64.StdEncoding.EncodeToString([]byte(`{"title":"Hello from grpcurl"}`))+`"}`, at(rpc))
	p("")
	p("  The same id again changes nothing: calls are idempotent.")
	p("")
	p("  Listen from the console of the demo's page (F12; the first without a token: it hears public/chat):")
	p("")
	p("    new WebSocket('ws://%s/').onmessage = e => console.log(e.data)", at(web))
	p("")
	p("    new WebSocket('ws://%s/v1/ws?inbox=5', ['allim.v1', 'bearer.%s']).onmessage = e => console.log(e.data)", at(web), c.users[0].Token)
	p("")
	p("    %s publish --publisher %s --key %s --topic public/chat --data '\"hello, everybody\"'", self(), at(rpc), c.yourKey)
	p("")
	p("  Tokens, good for a day:")
	for _, u := range c.users {
		p("    %-4s %s", u.ID, u.Token)
	}
	p("")
}

// self is how this program was called: from the source tree, or as a program.
func self() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/allim"
	}
	return os.Args[0]
}
