package store_test

import (
	"crypto/tls"
	"net"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"allim/internal/store"
	"allim/internal/testkit"
)

const tcpUserTimeout = 18 // TCP_USER_TIMEOUT of linux/tcp.h, which package syscall lacks

// A link that is cut silently ends within seconds, with TLS as without (pitfalls X1).
func TestEveryConnectionHasItsSocketOptions(t *testing.T) {
	a := testkit.NewAuthority(t)
	cert, key := a.Pair("gateway")
	plain := store.Connection{URL: testkit.Redis(t).As("gateway")}
	secure := store.Connection{URL: testkit.RedisTLS(t, a).As("gateway"), CAFile: a.CAFile, CertFile: cert, KeyFile: key}
	for name, c := range map[string]store.Connection{"plain": plain, "TLS": secure} {
		client, err := store.Connect(c)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		conn, err := client.(*redis.Client).Options().Dialer(t.Context(), "tcp", client.(*redis.Client).Options().Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if secured, ok := conn.(*tls.Conn); ok != (name == "TLS") {
			t.Fatalf("%s: got a %T", name, conn)
		} else if ok {
			conn = secured.NetConn()
		}
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range []struct{ level, name, want int }{{syscall.IPPROTO_TCP, tcpUserTimeout, 10_000}, {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1}} {
			var got int
			if cerr := raw.Control(func(fd uintptr) { got, err = syscall.GetsockoptInt(int(fd), o.level, o.name) }); cerr != nil || err != nil || got != o.want {
				t.Errorf("%s: option %d is %d, want %d (%v, %v)", name, o.name, got, o.want, cerr, err)
			}
		}
	}
}
