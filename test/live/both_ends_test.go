//go:build linux

package live

import (
	"bytes"
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

// joinedConnections is how many connections of each kind TestBothEnds makes.
const joinedConnections = 60

// Two hosts and a router between them are recorded by three processes, and have clocks that are hours apart. Address
// and port translation hides which connection is which, and ports are used again. Each connection is known by the
// number of its bytes. A proxy on the router ends connections: each of its sides is joined.
func TestBothEnds(t *testing.T) { attempts(t, bothEnds) }

func bothEnds(t testing.TB) {
	privileged(t)
	a, b, router := newContainer(t), newContainer(t), newContainer(t)
	a.cable(t, router, 1)
	b.cable(t, router, 2)
	router.do(t, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) })
	var listener, proxy int
	var at, proxyAt netip.AddrPort
	for _, c := range []*container{a, b, router} {
		c.do(t, func() error {
			startChild(t, "idle") // a process in the namespace, for --netns
			return nil
		})
	}
	b.do(t, func() error {
		listener, at = listen(t, netip.MustParseAddr("10.78.2.2"))
		return nil
	})
	defer unix.Close(listener)
	router.do(t, func() error {
		proxy, proxyAt = listen(t, netip.MustParseAddr("10.78.1.1"))
		return nil
	})
	defer unix.Close(proxy)
	service := netip.MustParseAddrPort("10.78.1.1:80")
	var noNAT error
	router.do(t, func() error {
		noNAT = translate(service.Port(), at)
		return nil
	})
	if noNAT != nil {
		t.Logf("this kernel does not translate addresses, so they stay as they are: %v", noNAT)
		service = at
	}

	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	must(t, err)
	defer nowhere.Close()
	dir := t.TempDir()
	var files []string
	var sessions []*session
	for i, c := range []*container{a, b, router} {
		file := filepath.Join(dir, fmt.Sprintf("host%d.jsonl", i))
		files = append(files, file)
		netns := fmt.Sprintf("inode:%d", c.inode)
		sessions = append(sessions, launchTo(t, nowhere, "record", "-w", file, "--netns", netns))
	}
	for n := range joinedConnections {
		client := a.connectFrom(t, uint16(42000+n%20), service)
		server := accepted(t, listener)
		resetUnread(t, client, server, 100+n)
	}
	for range joinedConnections {
		client := a.connectFrom(t, 0, proxyAt)
		inside := accepted(t, proxy)
		outside := router.connectFrom(t, 0, at)
		server := accepted(t, listener)
		for _, c := range []conn{client, inside, outside, server} { // FINs travel from the client to the server
			must(t, unix.Close(c.fd))
			time.Sleep(time.Millisecond)
		}
	}
	for i, r := range sessions {
		r.interrupt(t)
		otherHost(t, files[i], fmt.Sprintf("host%d", i), int64(i)*int64(-3*time.Hour))
	}
	checkBothEnds(t, files, at, noNAT == nil)
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

// checkBothEnds replays the recordings of the two hosts and the router.
func checkBothEnds(t testing.TB, files []string, at netip.AddrPort, isTranslated bool) {
	t.Helper()
	path, err := program()
	must(t, err)
	replay := exec.Command(path, append([]string{"replay", "-o", "json", "--json-summary"}, files...)...)
	var stderr bytes.Buffer
	replay.Stderr = &stderr
	out, err := replay.Output()
	if err != nil {
		t.Fatalf("replay: %v\n%s", err, &stderr)
	}
	resets := 0
	for text := range bytes.Lines(out) {
		var l struct {
			Kind, Host, Path, Cause, PeerLocal string
			Peer                               struct{ Host, Path string }
			Evidence                           struct {
				Sent int `json:"bytes_sent"`
			}
			BothEnds struct {
				Joined, Ambiguous int
				Clocks            []struct {
					Ahead int64 `json:"ahead_ns"`
				}
			} `json:"both_ends"`
		}
		text = bytes.Replace(text, []byte(`"peer_local"`), []byte(`"PeerLocal"`), 1)
		must(t, json.Unmarshal(text, &l))
		switch {
		case l.Kind == "summary":
			if l.BothEnds.Joined != 3*joinedConnections || l.BothEnds.Ambiguous != 0 {
				t.Errorf("joined %+v, want %d\n%s", l.BothEnds, 3*joinedConnections, &stderr)
			}
			for i, c := range l.BothEnds.Clocks {
				if off := time.Duration(c.Ahead) + time.Duration(i)*3*time.Hour; off.Abs() > 50*time.Millisecond {
					t.Errorf("clock %d is %s off", i, off)
				}
			}
		case l.Path == string(events.RecvRST) && l.Host == "host0":
			resets++
			did := fmt.Sprintf(" closed with %d B unread", l.Evidence.Sent)
			if l.Peer.Host != "host1" || l.Peer.Path != string(events.CloseRSTUnread) || !strings.Contains(l.Cause, did) {
				t.Errorf("%d B sent: %q by %+v", l.Evidence.Sent, l.Cause, l.Peer)
			}
			if isTranslated != (l.PeerLocal == at.String()) {
				t.Errorf("the other end of a translated address is %q, want %s", l.PeerLocal, at)
			}
		}
	}
	if resets != joinedConnections {
		t.Errorf("%d resets, want %d\n%s", resets, joinedConnections, &stderr)
	}
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
