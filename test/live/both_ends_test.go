//go:build linux

package live

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
)

// joinedConnections returns how many connections TestBothEnds makes: on this machine as many as take some seconds.
func joinedConnections() int {
	if emulated() {
		return 40
	}
	return 2000
}

// Two hosts and a router between them are recorded by three processes, and have clocks that are hours apart. Address
// and port translation hides which connection is which, and ports are used again. Each connection is known by the
// number of its bytes. A proxy on the router ends connections: each of its sides is joined.
func TestBothEnds(t *testing.T) { attempts(t, bothEnds) }

func bothEnds(t testing.TB) {
	n := joinedConnections()
	proxied := min(n, 60)
	h := newTwoHosts(t)
	var proxy int
	var proxyAt netip.AddrPort
	h.router.do(t, func() error {
		proxy, proxyAt = listen(t, netip.MustParseAddr("10.78.1.1"))
		return nil
	})
	defer unix.Close(proxy)
	h.record(t)
	for i := range n {
		client := h.a.connectFrom(t, uint16(42000+i%20), h.service)
		server := accepted(t, h.listener)
		resetUnread(t, client, server, 100+i)
	}
	for range proxied {
		client := h.a.connectFrom(t, 0, proxyAt)
		inside := accepted(t, proxy)
		outside := h.router.connectFrom(t, 0, h.at)
		server := accepted(t, h.listener)
		for _, c := range []conn{client, inside, outside, server} { // FINs travel from the client to the server
			must(t, unix.Close(c.fd))
			time.Sleep(time.Millisecond)
		}
	}
	resets := 0
	for _, l := range h.replay(t, n+2*proxied) {
		if l.Path != events.RecvRST || l.Host != "host0" {
			continue
		}
		resets++
		isRight := l.Peer.Host == "host1" && l.Peer.Path == events.CloseRSTUnread
		if !isRight || !strings.Contains(l.Cause, closedWith(l.Evidence.Sent)) {
			t.Errorf("%d B sent: %q by %+v", l.Evidence.Sent, l.Cause, l.Peer)
		}
		if h.isTranslated != (l.PeerLocal == h.at.String()) {
			t.Errorf("the other end of a translated address is %q, want %s", l.PeerLocal, h.at)
		}
	}
	if resets != n {
		t.Errorf("%d resets, want %d", resets, n)
	}
}

// closedWith is what an ending says of a close of the other end with so many bytes unread.
func closedWith(unread int) string {
	return " closed with " + events.Grouped(uint64(unread)) + " B unread"
}

// Every tenth segment between two hosts is lost, and sent again, or never arrives. Connections are known by their
// number of bytes and the port of their client. None is joined wrongly, and all are joined.
func TestBothEndsLoss(t *testing.T) {
	privileged(t)
	var err error
	inNetns(t, func(uint32) { err = loseSegments(lostOf) })
	if err != nil {
		t.Skipf("this kernel cannot drop segments at random (nft_numgen): %v", err)
	}
	attempts(t, bothEndsLoss)
}

// lostOf is of how many segments one is lost.
const lostOf = 10

func bothEndsLoss(t testing.TB) {
	const least = 100
	n := min(joinedConnections(), 200)
	h := newTwoHosts(t)
	h.router.do(t, func() error { return loseSegments(lostOf) })
	h.record(t)
	clients := map[string]int{} // by address: the bytes that it sends
	var ends []conn
	for range n {
		ends = append(ends, h.a.startConnect(t, h.service))
	}
	var servers []conn
	for range n {
		servers = append(servers, accepted(t, h.listener))
	}
	for i, c := range ends {
		c.state(t, uint8(events.Established))
		sa, err := unix.Getsockname(c.fd)
		clients[addrPort(t, sa, err).String()] = least + i
		c.send(t, least+i) // one segment
	}
	for _, c := range servers {
		eventually(t, "data", func() bool { return unread(t, c) >= least })
		must(t, unix.Close(c.fd)) // the RST may be lost
	}
	for _, c := range ends {
		must(t, unix.Close(c.fd)) // then a FIN is sent until it is answered
	}
	time.Sleep(time.Second)
	h.checkLossy(t, h.replay(t, n), clients)
}

// checkLossy checks that each server was joined with the client that sent what it did not read, and each client that
// was reset with its server.
func (h *twoHosts) checkLossy(t testing.TB, lines []joinedLine, clients map[string]int) {
	t.Helper()
	right := 0
	for _, l := range lines {
		sent, isClient := clients[l.Local]
		other := cmp.Or(l.PeerLocal, l.Remote)
		switch {
		case l.Path == events.CloseRSTUnread && l.Host == "host1":
			right++
			if clients[other] != l.Evidence.Unread {
				t.Errorf("%d B unread of %s, which sent %d", l.Evidence.Unread, other, clients[other])
			}
		case isClient && l.Peer.Path == events.CloseRSTUnread:
			if other != h.at.String() || !strings.Contains(l.Cause, closedWith(sent)) {
				t.Errorf("%s sent %d B to %s: %q", l.Local, sent, other, l.Cause)
			}
		}
	}
	if right != len(clients) {
		t.Errorf("%d closes with unread data, want %d", right, len(clients))
	}
}

// HAProxy on a host between two others ends connections: each of its sides is joined with the host that it talks to,
// and a client's connection says what HAProxy did, HAProxy's what the server did.
func TestBothEndsHAProxy(t *testing.T) {
	haproxy := lookProgram(t, "haproxy", "haproxy")
	attempts(t, func(t testing.TB) { bothEndsHAProxy(t, haproxy) })
}

func bothEndsHAProxy(t testing.TB, haproxy string) {
	const n = 100
	h := newTwoHosts(t)
	proxy := netip.MustParseAddrPort("10.78.1.1:8080")
	h.startHAProxy(t, haproxy, proxy)
	h.record(t)
	for i := range n {
		client := h.a.connectFrom(t, 0, proxy)
		client.send(t, 100+i)
		server := accepted(t, h.listener)
		server.queued(t, 100+i)
		must(t, unix.Close(server.fd))
		poll := []unix.PollFd{{Fd: int32(client.fd), Events: unix.POLLRDHUP}}
		eventually(t, "HAProxy closes", func() bool {
			ready, err := unix.Poll(poll, 0)
			return err == nil && ready > 0
		})
		must(t, unix.Close(client.fd))
	}
	said := map[string]int{}
	for _, l := range h.replay(t, 2*n) {
		switch {
		case l.Path == events.RecvRST && l.Host == "host2" && l.Remote == h.at.String():
			said["server"]++
			if l.Peer.Host != "host1" || !strings.Contains(l.Cause, closedWith(l.Evidence.Sent)) {
				t.Errorf("%d B sent: %q by %+v", l.Evidence.Sent, l.Cause, l.Peer)
			}
		case l.Host == "host0" && l.Peer.Host != "":
			said["haproxy"]++
			if l.Peer.Host != "host2" || !strings.Contains(l.Cause, "; host host2: haproxy[") {
				t.Errorf("%s: %q by %+v", l.Path, l.Cause, l.Peer)
			}
		}
	}
	if said["server"] != n || said["haproxy"] < n {
		t.Errorf("HAProxy knows why of %d connections, its clients of %d, want %d", said["server"], said["haproxy"], n)
	}
}

// startHAProxy starts HAProxy on the router.
func (h *twoHosts) startHAProxy(t testing.TB, haproxy string, at netip.AddrPort) {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "haproxy.cfg")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, `defaults
	mode tcp
	timeout connect 5s
	timeout client 60s
	timeout server 60s
listen both
	bind %v
	server b %v
`, at, h.at), 0o600))
	cmd := exec.Command(haproxy, "-db", "-f", conf)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	h.router.do(t, cmd.Start)
	t.Cleanup(func() {
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("haproxy: %s", &output)
		}
	})
	eventually(t, "HAProxy", func() (listens bool) {
		h.a.do(t, func() error {
			fd := socket(t, at.Addr())
			defer unix.Close(fd)
			listens = unix.Connect(fd, sockaddr(at)) == nil
			return nil
		})
		return listens
	})
	_ = unix.Close(accepted(t, h.listener).fd) // of the connection that was tried
}

// twoHosts are two hosts with a router between them: namespaces, each recorded by a closetrace of its own.
type twoHosts struct {
	a, b, router *container
	listener     int
	at, service  netip.AddrPort // of the listener on b, and how a reaches it
	isTranslated bool

	files    []string // of the recordings
	sessions []*session
}

func newTwoHosts(t testing.TB) *twoHosts {
	t.Helper()
	privileged(t)
	h := &twoHosts{a: newContainer(t), b: newContainer(t), router: newContainer(t)}
	h.a.cable(t, h.router, 1)
	h.b.cable(t, h.router, 2)
	h.b.do(t, func() error {
		h.listener, h.at = listen(t, netip.MustParseAddr("10.78.2.2"))
		return unix.Listen(h.listener, 1024)
	})
	t.Cleanup(func() { unix.Close(h.listener) })
	for _, c := range []*container{h.a, h.b, h.router} {
		c.do(t, func() error {
			startChild(t, "idle") // a process in the namespace, for --netns
			return nil
		})
	}
	h.service = netip.MustParseAddrPort("10.78.1.1:80")
	h.router.do(t, func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
			return err
		}
		err := translate(h.service.Port(), h.at)
		if h.isTranslated = err == nil; !h.isTranslated {
			if emulated() { // its modules are loaded
				return err
			}
			t.Logf("this kernel does not translate addresses, so they stay as they are: %v", err)
			h.service = h.at
		}
		return nil
	})
	return h
}

// record starts the recordings.
func (h *twoHosts) record(t testing.TB) {
	t.Helper()
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	must(t, err)
	t.Cleanup(func() { nowhere.Close() })
	dir := t.TempDir()
	for i, c := range []*container{h.a, h.b, h.router} {
		file := filepath.Join(dir, fmt.Sprintf("host%d.jsonl", i))
		h.files = append(h.files, file)
		netns := fmt.Sprintf("inode:%d", c.inode)
		h.sessions = append(h.sessions, launchTo(t, nowhere, "record", "-w", file, "--netns", netns))
	}
}

// joinedLine is what is looked at of a line of the replay.
type joinedLine struct {
	Kind, Host, Cause, Local, Remote string
	Path                             events.Path
	PeerLocal                        string `json:"peer_local"`
	Peer                             struct {
		Host string
		Path events.Path
	}
	Evidence struct {
		Sent   int `json:"bytes_sent"`
		Unread int `json:"unread_bytes"`
	}
	BothEnds struct {
		Joined, Ambiguous int
		Clocks            []struct {
			Ahead int64 `json:"ahead_ns"`
		}
	} `json:"both_ends"`
}

// replay ends the recordings, moves their clocks hours apart, and replays them together. So many connections are
// joined, none is ambiguous, and the clocks are found.
func (h *twoHosts) replay(t testing.TB, joined int) (lines []joinedLine) {
	t.Helper()
	for i, r := range h.sessions {
		r.interrupt(t)
		otherHost(t, h.files[i], fmt.Sprintf("host%d", i), int64(i)*int64(-3*time.Hour))
	}
	path, err := program()
	must(t, err)
	replay := exec.Command(path, append([]string{"replay", "-o", "json", "--json-summary"}, h.files...)...)
	var stderr bytes.Buffer
	replay.Stderr = &stderr
	out, err := replay.Output()
	if err != nil {
		t.Fatalf("replay: %v\n%s", err, &stderr)
	}
	for text := range bytes.Lines(out) {
		var l joinedLine
		must(t, json.Unmarshal(text, &l))
		lines = append(lines, l)
	}
	found := lines[len(lines)-1].BothEnds
	if found.Joined != joined || found.Ambiguous != 0 {
		t.Errorf("joined %+v, want %d\n%s", found, joined, &stderr)
	}
	for i, c := range found.Clocks[:2] { // the router may have no connection
		if off := time.Duration(c.Ahead) + time.Duration(i)*3*time.Hour; off.Abs() > 50*time.Millisecond {
			t.Errorf("clock %d is %s off", i, off)
		}
	}
	return lines
}

// startConnect connects without waiting for the handshake.
func (c *container) startConnect(t testing.TB, to netip.AddrPort) (made conn) {
	t.Helper()
	c.do(t, func() error {
		made = conn{fd: socket(t, to.Addr()), remote: to}
		if err := unix.SetNonblock(made.fd, true); err != nil {
			return err
		}
		if err := unix.Connect(made.fd, sockaddr(to)); err != unix.EINPROGRESS {
			return err
		}
		return nil
	})
	return made
}

// unread returns how many bytes wait to be read.
func unread(t testing.TB, c conn) int {
	t.Helper()
	n, err := unix.IoctlGetInt(c.fd, unix.TIOCINQ)
	must(t, err)
	return n
}

// loseSegments makes the namespace of the calling thread drop one of so many segments that it forwards.
func loseSegments(of uint32) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Name: "loss", Family: nftables.TableFamilyIPv4})
	chain := conn.AddChain(&nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
		Priority: nftables.ChainPriorityFilter,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Numgen{Register: 1, Modulus: of, Type: unix.NFT_NG_RANDOM},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	return conn.Flush()
}

// connectFrom connects from a port, which may be in TIME_WAIT; 0: any.
func (c *container) connectFrom(t testing.TB, port uint16, to netip.AddrPort) (made conn) {
	t.Helper()
	c.do(t, func() error {
		made = conn{fd: socket(t, to.Addr()), remote: to}
		if err := unix.SetsockoptInt(made.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
		any4 := netip.AddrPortFrom(netip.IPv4Unspecified(), port)
		if err := unix.Bind(made.fd, sockaddr(any4)); err != nil {
			return err
		}
		return unix.Connect(made.fd, sockaddr(to))
	})
	return made
}

func accepted(t testing.TB, listener int) conn {
	t.Helper()
	fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	must(t, err)
	return conn{fd: fd}
}

// resetUnread closes a server with so many bytes unread, and its client.
func resetUnread(t testing.TB, client, server conn, n int) {
	t.Helper()
	client.send(t, n)
	server.queued(t, n)
	must(t, unix.Close(server.fd))
	client.state(t, uint8(events.Close))
	must(t, unix.Close(client.fd))
}

// otherHost makes a recording look like that of another host, whose wall clock is wrong.
func otherHost(t testing.TB, file, name string, wrong int64) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	d := json.NewDecoder(bytes.NewReader(first))
	d.UseNumber()
	header := map[string]any{}
	must(t, d.Decode(&header))
	offset, err := header["wall_offset_ns"].(json.Number).Int64()
	must(t, err)
	header["wall_offset_ns"], header["host"], header["boot_id"] = offset+wrong, name, name
	first, err = json.Marshal(header)
	must(t, err)
	must(t, os.WriteFile(file, append(append(first, '\n'), rest...), 0o600))
}

// translate makes the namespace of the calling thread forward connections to one of its ports, from ports of its own.
func translate(port uint16, to netip.AddrPort) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Name: "nat", Family: nftables.TableFamilyIPv4})
	chain := func(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		return conn.AddChain(&nftables.Chain{
			Name: name, Table: table, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: priority,
		})
	}
	number := func(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
	toPort := func(n uint16) []expr.Any {
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2, DestRegister: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: number(n)},
		}
	}
	addr := to.Addr().As4()
	in := chain("in", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	conn.AddRule(&nftables.Rule{Table: table, Chain: in, Exprs: append(toPort(port),
		&expr.Immediate{Register: 1, Data: addr[:]}, &expr.Immediate{Register: 2, Data: number(to.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2})})
	out := chain("out", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	conn.AddRule(&nftables.Rule{Table: table, Chain: out, Exprs: append(toPort(to.Port()),
		&expr.Immediate{Register: 1, Data: number(50000)}, &expr.Immediate{Register: 2, Data: number(59999)},
		&expr.Masq{ToPorts: true, RegProtoMin: 1, RegProtoMax: 2})})
	return conn.Flush()
}
