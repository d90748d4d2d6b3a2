package testkit

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// descriptors maps the number of each open descriptor to what it is. The Go
// runtime's own (the poller, which it opens when first needed) are left out.
func descriptors() map[string]string {
	const dir = "/proc/self/fd"
	open := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		panic(fmt.Sprintf("testkit: read %s: %v", dir, err)) // no check is worse than a loud one
	}
	for _, e := range entries {
		target, err := os.Readlink(dir + "/" + e.Name())
		if err != nil { // closed meanwhile, as the listing's own descriptor is
			continue
		}
		if target == "anon_inode:[eventpoll]" || target == "anon_inode:[eventfd]" {
			continue
		}
		open[e.Name()] = target
	}
	return open
}

// withSockets appends to lines with "socket:[inode]" the addresses that the
// kernel knows for it.
func withSockets(lines []string) []string {
	ends := map[string]string{}
	for _, kind := range []string{"tcp", "tcp6", "udp", "udp6"} {
		text, err := os.ReadFile("/proc/self/net/" + kind)
		if err != nil {
			continue // the kernel may lack IPv6
		}
		for _, row := range strings.Split(string(text), "\n") {
			f := strings.Fields(row) // sl local remote state queues timer retransmits uid timeout inode …
			if len(f) < 10 || f[9] == "inode" {
				continue
			}
			ends["socket:["+f[9]+"]"] = kind + " " + socketAddr(f[1]) + " → " + socketAddr(f[2]) + socketState(f[3])
		}
	}
	for i, line := range lines {
		if at := strings.Index(line, "socket:["); at >= 0 {
			lines[i] = strings.TrimSpace(line + " " + ends[line[at:]])
		}
	}
	return lines
}

// socketAddr reads the kernel's hexadecimal form, whose address is made of
// little-endian words of four bytes (proc_pid_net(5)).
func socketAddr(s string) string {
	host, port, ok := strings.Cut(s, ":")
	ip, err := hex.DecodeString(host)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(ip)%4 != 0 {
		return s
	}
	for w := 0; w < len(ip); w += 4 {
		ip[w], ip[w+1], ip[w+2], ip[w+3] = ip[w+3], ip[w+2], ip[w+1], ip[w]
	}
	return net.JoinHostPort(net.IP(ip).String(), strconv.FormatUint(n, 10))
}

func socketState(s string) string {
	switch s {
	case "01":
		return " (established)"
	case "08":
		return " (the peer has closed)"
	case "0A":
		return " (listening)"
	}
	return ""
}
