//go:build linux

package sockets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/netns"
)

// ErrUnsupported means that this kernel has no sock_diag for TCP.
var ErrUnsupported = errors.New("sock_diag does not support TCP")

// tries is how often sockets are listed if they change meanwhile.
const tries = 3

// listed are the states of the sockets that are listed, as bits. FIN_WAIT2 includes what the kernel keeps of closed
// sockets.
const listed = 1<<events.Listen | 1<<events.CloseWait | 1<<events.FinWait1 | 1<<events.FinWait2 |
	1<<events.Closing | 1<<events.LastAck

// AppendSockDiag adds the sockets of the calling thread's network namespace, whose inode number is netns, that listen
// or that do not close: those in CLOSE_WAIT, FIN_WAIT1, FIN_WAIT2, CLOSING and LAST_ACK. It asks sock_diag(7), and
// keeps nothing else of the answer. whole is false if some may be missing, because they changed while they were listed.
func AppendSockDiag(to *List, netns uint32) (whole bool, err error) {
	whole = true
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		ok, err := appendFamily(to, netns, family)
		if err != nil {
			return false, err
		}
		whole = whole && ok
	}
	return whole, nil
}

func appendFamily(to *List, netns uint32, family uint8) (whole bool, err error) {
	before := to.Len()
	for range tries {
		to.cut(before)
		request := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		request.AddData(diagRequest{family: family, states: listed, extensions: 1 << (diagInfo - 1)})
		err = request.ExecuteIter(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY, func(message []byte) bool {
			if s, ok := socket(message); ok {
				s.Netns = netns
				to.Add(&s)
			}
			return true
		})
		if !errors.Is(err, nl.ErrDumpInterrupted) {
			break
		}
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, nl.ErrDumpInterrupted):
		return false, nil
	}
	return false, unlisted(err)
}

// unlisted returns why sockets could not be listed.
func unlisted(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return fmt.Errorf("listing sockets: %w", err)
}

// VisitOwn visits the sockets of this process's network namespace with these ports, in any state, those that listen
// first; 0 is any port. The kernel selects them, which costs a fraction of reading all from /proc/net/tcp. If visit
// returns false, it visits no more. If this process is in another namespace than the one with inode number space, it
// returns [netns.ErrGone].
func VisitOwn(space uint32, local, remote uint16, visit func(*Socket) bool) error {
	if own, err := netns.Inode("/proc/self/ns/net"); err != nil || own != space {
		return netns.ErrGone
	}
	const listening, others = 1 << events.Listen, (1<<(events.NewSynRecv+1) - 1) &^ (1 << events.Listen)
	more := true
	for _, states := range []uint32{listening, others} {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			if !more {
				return nil
			}
			request := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
			request.AddData(diagRequest{family: family, states: states, local: local, remote: remote})
			err := request.ExecuteIter(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY, func(message []byte) bool {
				if s, ok := socket(message); ok {
					more = visit(&s)
				}
				return more
			})
			if err != nil {
				return unlisted(err)
			}
		}
	}
	return nil
}

// Of include/uapi/linux/inet_diag.h.
const (
	diagRequestSize = 56 // bytes of struct inet_diag_req_v2
	diagMessageSize = 72 // bytes of struct inet_diag_msg
	diagInfo        = 2  // INET_DIAG_INFO: struct tcp_info
	// miniTimer is idiag_timer of the FIN_WAIT2 entry that the kernel keeps of a closed socket.
	miniTimer = 3
)

// diagRequest is a struct inet_diag_req_v2 for the sockets of a family in some states, and with these ports; 0: any.
type diagRequest struct {
	family        uint8
	extensions    uint8 // of the answer, as bits
	states        uint32
	local, remote uint16
}

// Len returns the size in bytes.
func (r diagRequest) Len() int { return diagRequestSize }

// Serialize returns the struct.
func (r diagRequest) Serialize() []byte {
	b := make([]byte, diagRequestSize)
	b[0], b[1], b[2] = r.family, unix.IPPROTO_TCP, r.extensions
	binary.NativeEndian.PutUint32(b[4:], r.states)
	binary.BigEndian.PutUint16(b[8:], r.local)
	binary.BigEndian.PutUint16(b[10:], r.remote)
	return b
}

// socket converts a struct inet_diag_msg and its attributes. A v4-mapped address becomes IPv4.
func socket(b []byte) (s Socket, ok bool) {
	if len(b) < diagMessageSize {
		return s, false
	}
	number := binary.NativeEndian.Uint32
	s = Socket{
		Local:        address(b[0], b[8:24], binary.BigEndian.Uint16(b[4:])),
		Remote:       address(b[0], b[24:40], binary.BigEndian.Uint16(b[6:])),
		State:        events.State(b[1]),
		ReceiveQueue: number(b[56:]), SendQueue: number(b[60:]), UID: number(b[64:]), Inode: uint64(number(b[68:])),
	}
	info := tcpInfo(b[diagMessageSize:])
	switch {
	case info != nil:
		s.NotSent = info.Notsent_bytes
		s.LastHeard = time.Duration(info.Last_ack_recv) * time.Millisecond
		s.RTO = time.Duration(info.Rto) * time.Microsecond
		s.Backoff, s.Retries = info.Backoff, info.Retransmits
		inFlight := s.SendQueue - min(s.NotSent, s.SendQueue)
		s.WindowClosed = s.State != events.Listen && info.Snd_wnd <= inFlight
	case b[2] == miniTimer:
		s.Mini, s.TimeLeft = true, time.Duration(number(b[52:]))*time.Millisecond
	}
	return s, s.Local.IsValid() && s.Remote.IsValid()
}

// tcpInfo returns the attribute INET_DIAG_INFO, or nil. What an older kernel does not have is 0, and the window open.
func tcpInfo(attributes []byte) *unix.TCPInfo {
	for len(attributes) >= unix.SizeofNlAttr {
		length, kind := int(binary.NativeEndian.Uint16(attributes)), binary.NativeEndian.Uint16(attributes[2:])
		if length < unix.SizeofNlAttr || length > len(attributes) {
			return nil
		}
		if kind == diagInfo {
			info := &unix.TCPInfo{Snd_wnd: math.MaxUint32}
			copy(unsafe.Slice((*byte)(unsafe.Pointer(info)), unsafe.Sizeof(*info)), attributes[unix.SizeofNlAttr:length])
			return info
		}
		attributes = attributes[min((length+3)&^3, len(attributes)):]
	}
	return nil
}

func address(family uint8, ip []byte, port uint16) netip.AddrPort {
	switch family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[:4])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(ip)).Unmap(), port)
	}
	return netip.AddrPort{}
}
