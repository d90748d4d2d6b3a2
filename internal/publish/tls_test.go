package publish

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpctls "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
)

func TestBothPortsSpeakTLSAndNothingElse(t *testing.T) {
	t.Parallel()
	lent := httptest.NewTLSServer(nil) // for its certificate
	defer lent.Close()
	roots := x509.NewCertPool()
	roots.AddCert(lent.Certificate())
	trust := &tls.Config{RootCAs: roots, ServerName: "example.com"}
	b := newBench(t, func(o *Options) {
		o.TLS = &tls.Config{Certificates: lent.TLS.Certificates, MinVersion: tls.VersionTLS12}
	})
	web := strings.TrimPrefix(b.url, "http://")

	conn, err := grpc.NewClient(b.conn.Target(), grpc.WithTransportCredentials(grpctls.NewTLS(trust.Clone())))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	q := &pb.PublishRequest{Topics: []string{"a"}, Data: []byte("1")}
	if _, err := pb.NewPublisherClient(conn).Publish(b.as("all"), q); err != nil {
		t.Errorf("gRPC: %v", err)
	}
	if _, err := b.publisher().Publish(b.asWithin("all", time.Second), q); status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("gRPC without TLS: got %v", err)
	}

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: true}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(testkit.Context(t, 10*time.Second), http.MethodPost, "https://"+web+"/v1/publish", strings.NewReader(`{"topics":["a"],"data":1}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", credentials["all"])
	w, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, w.Body)
	_ = w.Body.Close()
	if w.StatusCode != http.StatusOK || w.ProtoMajor != 1 {
		t.Errorf("HTTP: got %d in HTTP/%d", w.StatusCode, w.ProtoMajor)
	}
	if line := b.plain(web); !strings.HasPrefix(line, "HTTP/1.0 400") {
		t.Errorf("HTTP without TLS: got %q", line)
	}
	if log := b.log.String(); log != "" {
		t.Errorf("strangers fill the log:\n%s", log)
	}
}

// plain is the first line of an answer to a request without TLS.
func (b *bench) plain(addr string) string {
	b.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, "POST /v1/publish HTTP/1.1\r\nHost: x\r\n\r\n")
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		b.Errorf("no answer: %v", err)
	}
	return line
}
