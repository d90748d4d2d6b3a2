package boot

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const healthWithin = 3 * time.Second // of a question to the operations port

// healthcheck asks the program on this machine whether it is ready. listen is where its operations port is; the error says why it is not.
func healthcheck(listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("listen.ops: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	c := &http.Client{Timeout: healthWithin, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + net.JoinHostPort(host, port) + "/healthz/ready")
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	defer r.Body.Close()
	why, err := io.ReadAll(io.LimitReader(r.Body, 1<<10))
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("not ready: %s", strings.TrimSpace(string(why)))
	}
	return err
}
