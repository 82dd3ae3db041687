package sockets

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/netns"
)

// diagMessage returns a struct inet_diag_msg, with a struct tcp_info of some bytes behind another attribute; 0: none.
func diagMessage(family uint8, info int) []byte {
	b := make([]byte, diagMessageSize)
	b[0], b[1] = family, byte(events.CloseWait)
	binary.BigEndian.PutUint16(b[4:], 8080)
	binary.BigEndian.PutUint16(b[6:], 51234)
	local, remote := netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("10.0.0.9")
	if family == unix.AF_INET {
		copy(b[8:], local.AsSlice())
		copy(b[24:], remote.AsSlice())
	} else {
		six := local.As16()
		copy(b[8:], six[:])
		six = remote.As16()
		copy(b[24:], six[:])
	}
	for i, n := range []uint32{9000, 11, 12, 33, 1234} { // expires, queues, uid, inode
		binary.NativeEndian.PutUint32(b[52+4*i:], n)
	}
	if info == 0 {
		return b
	}
	b = append(b, 5, 0, 8, 0, 0xff, 0, 0, 0) // INET_DIAG_SHUTDOWN, padded
	attribute := make([]byte, unix.SizeofNlAttr+info)
	binary.NativeEndian.PutUint16(attribute, uint16(len(attribute)))
	binary.NativeEndian.PutUint16(attribute[2:], diagInfo)
	value := attribute[unix.SizeofNlAttr:]
	for at, n := range map[int]uint32{8: 204_000, 56: 60_000, 144: 7, 228: 5} { // RTO, last ACK received, not sent, window
		if at+4 <= info {
			binary.NativeEndian.PutUint32(value[at:], n)
		}
	}
	value[2], value[4] = 2, 3 // retransmits, backoff
	return append(b, attribute...)
}

func TestSocketOfSockDiag(t *testing.T) {
	whole := Socket{
		Local: here, Remote: there, State: events.CloseWait, ReceiveQueue: 11, SendQueue: 12, UID: 33, Inode: 1234,
		NotSent: 7, LastHeard: time.Minute, RTO: 204 * time.Millisecond, Backoff: 3, Retries: 2, WindowClosed: true,
	}
	older := whole
	older.NotSent, older.WindowClosed = 0, false
	bare := older
	bare.LastHeard, bare.RTO, bare.Backoff, bare.Retries = 0, 0, 0, 0
	mini := bare
	mini.Mini, mini.TimeLeft = true, 9*time.Second
	timewait := diagMessage(unix.AF_INET, 0)
	timewait[2] = miniTimer
	for _, tt := range []struct {
		name    string
		message []byte
		want    Socket
	}{
		{"IPv4", diagMessage(unix.AF_INET, 240), whole},
		{"v4-mapped", diagMessage(unix.AF_INET6, 240), whole},
		{"a newer kernel", diagMessage(unix.AF_INET, 400), whole},
		{"an older kernel", diagMessage(unix.AF_INET, 104), older},
		{"no tcp_info", diagMessage(unix.AF_INET, 0), bare},
		{"closed", timewait, mini},
		{"an attribute cut short", append(diagMessage(unix.AF_INET, 0), 200, 0, diagInfo, 0, 1), bare},
		{"an attribute of no length", append(diagMessage(unix.AF_INET, 0), 0, 0, diagInfo, 0, 1), bare},
	} {
		if got, ok := socket(tt.message); !ok || got != tt.want {
			t.Errorf("%s: got %+v, %v, want %+v", tt.name, got, ok, tt.want)
		}
	}
	if _, ok := socket(diagMessage(unix.AF_INET, 0)[:diagMessageSize-1]); ok {
		t.Error("a message cut short is a socket")
	}
	if _, ok := socket(diagMessage(unix.AF_UNIX, 0)); ok {
		t.Error("a Unix socket is one of TCP")
	}
}

// The kernel lists the sockets of this machine by their ports, whatever their state.
func TestVisitOwn(t *testing.T) {
	own, err := netns.Inode("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	near := netip.MustParseAddrPort(client.LocalAddr().String())
	far := netip.MustParseAddrPort(listener.Addr().String())
	visit := func(space uint32, local, remote netip.AddrPort) (found []events.State, err error) {
		err = VisitOwn(space, local.Port(), remote.Port(), func(s *Socket) bool {
			if s.Local == local {
				found = append(found, s.State)
			}
			return s.State != events.Listen
		})
		return found, err
	}
	for name, tt := range map[string]struct {
		space         uint32
		local, remote netip.AddrPort
		want          []events.State
		err           error
	}{
		"the client's":         {own, near, far, []events.State{events.Established}, nil},
		"the server's":         {own, far, near, []events.State{events.Established}, nil},
		"up to the listener":   {own, far, netip.AddrPort{}, []events.State{events.Listen}, nil},
		"of another namespace": {own + 1, far, near, nil, netns.ErrGone},
	} {
		found, err := visit(tt.space, tt.local, tt.remote)
		if errors.Is(err, ErrUnsupported) {
			t.Skipf("this kernel lists no TCP sockets: %v", err)
		}
		if !errors.Is(err, tt.err) || !slices.Equal(found, tt.want) {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
}
