//go:build linux

package live

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/probe"
)

// A firewall resets a connection. The line says so or, where netfilter is not
// traced, that the other end is open and did not send the RST. Under a filter that
// may hide who sent it, the line does not say that.
func TestResetByNeitherEnd(t *testing.T) {
	needsFirewall(t)
	attempts(t, func(t testing.TB) { resetByNeitherEnd(t, false) })
	attempts(t, func(t testing.TB) { resetByNeitherEnd(t, true) })
}

func resetByNeitherEnd(t testing.TB, hidden bool) {
	inNetns(t, func(netns uint32) {
		startChild(t, "idle") // a process in the namespace
		a, b := newPair(t, loopback4)
		flags := []string{"-o", "json", "--only", string(events.RecvRST)}
		if hidden {
			flags = append(flags, "--rport", itoa(int(b.local.Port())))
		}
		r := launch(t, flags...)
		lines := r.collect()
		must(t, lab.Rule{Hook: "input", Action: "reset", Port: b.local.Port()}.Add())
		a.send(t, 5)
		a.state(t, uint8(events.Close))
		b.state(t, uint8(events.Established))
		r.interrupt(t)
		inferred := "is still ESTABLISHED and sent no RST"
		if !emulated() { // where looking for the owner in /proc may take too long
			inferred = fmt.Sprintf("[%d]) ", os.Getpid()) + inferred
		}
		observed := fmt.Sprintf("sent by netfilter's REJECT in INPUT of network namespace %d", netns)
		resets := 0
		for _, l := range <-lines {
			resets++
			switch {
			case r.mode != string(probe.Tracepoint) && strings.Contains(l.Cause, observed):
			case strings.Contains(l.Cause, inferred) == hidden, (l.Confidence == "inferred") == hidden:
				t.Errorf("%s: %s, %q, want %q: %v", flags, l.Confidence, l.Cause, inferred, !hidden)
			}
		}
		if resets != 1 {
			t.Errorf("%d resets", resets)
		}
		must(t, unix.Close(a.fd))
		must(t, unix.Close(b.fd))
	})
}

// A router between two namespaces resets a connection, in FORWARD: both ends are on
// this host, and neither is in the namespace of the rule.
func TestResetByRouter(t *testing.T) {
	needsFirewall(t)
	attempts(t, resetByRouter)
}

func resetByRouter(t testing.TB) {
	a, b, router := newContainer(t), newContainer(t), newContainer(t)
	a.cable(t, router, 1)
	b.cable(t, router, 2)
	router.do(t, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) })
	var client, server conn
	var listener int
	var at netip.AddrPort
	b.do(t, func() error {
		startChild(t, "idle") // a process in the namespace
		listener, at = listen(t, netip.MustParseAddr("10.78.2.2"))
		return nil
	})
	defer unix.Close(listener)
	a.do(t, func() error {
		startChild(t, "idle")
		client.fd = socket(t, at.Addr())
		return unix.Connect(client.fd, sockaddr(at))
	})
	defer unix.Close(client.fd)
	fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	must(t, err)
	server.fd = fd
	defer unix.Close(server.fd)

	stdout, w, err := os.Pipe()
	must(t, err)
	defer stdout.Close()
	r := launchTo(t, w, "-o", "json", "--only", string(events.RecvRST), "-P", itoa(int(at.Port())))
	r.stdout = stdout
	must(t, w.Close())
	lines := r.collect()
	router.do(t, lab.Rule{Hook: "forward", Action: "reset", Port: at.Port()}.Add)
	client.send(t, 5)
	client.state(t, uint8(events.Close))
	server.state(t, uint8(events.Established))
	r.interrupt(t)
	want := fmt.Sprintf("sent by netfilter's REJECT in FORWARD of network namespace %d", router.inode)
	if r.mode == string(probe.Tracepoint) {
		want = "is still ESTABLISHED and sent no RST"
	}
	seen := <-lines
	if len(seen) != 1 || !strings.Contains(seen[0].Cause, want) {
		t.Errorf("want %q, got %+v", want, seen)
	}
}

// cable connects a container with a router: 10.78.n.2 with 10.78.n.1.
func (c *container) cable(t testing.TB, router *container, n int) {
	t.Helper()
	port := fmt.Sprintf("port%d", n)
	c.do(t, func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: port, PeerNamespace: netlink.NsFd(router.fd),
		})
	})
	up := func(name string, host int) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(fmt.Sprintf("10.78.%d.%d/24", n, host))
		if err != nil {
			return err
		}
		return errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link))
	}
	router.do(t, func() error { return up(port, 1) })
	c.do(t, func() error {
		if err := up("eth0", 2); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(10, 78, byte(n), 1)})
	})
}
