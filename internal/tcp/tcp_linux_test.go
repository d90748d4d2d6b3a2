package tcp_test

import (
	"context"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"allim/internal/tcp"
	"allim/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func option(t *testing.T, c net.Conn, level, name int) (v int) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { v, err = unix.GetsockoptInt(int(fd), level, name) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return v
}

func TestAcceptedAndDialledConnectionsHaveTheOptions(t *testing.T) {
	o := tcp.Options{UserTimeout: 7 * time.Second, SendBuffer: 32 << 10}
	l, err := (&net.ListenConfig{Control: o.Control}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	there, err := (&net.Dialer{Control: o.Control}).Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	here, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	for name, c := range map[string]net.Conn{"accepted": here, "dialled": there} {
		if got := option(t, c, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); got != 7000 {
			t.Errorf("%s: user timeout %d ms", name, got)
		}
		if got := option(t, c, unix.SOL_SOCKET, unix.SO_SNDBUF); got != 64<<10 { // the kernel doubles it for its own bookkeeping (socket(7))
			t.Errorf("%s: send buffer %d", name, got)
		}
	}
}
