package probe

import (
	"bytes"
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/closetrace/closetrace/internal/events"
)

// decodeError is a record that this build cannot read: the BPF object and the
// program do not fit together.
type decodeError struct{ what string }

func (e *decodeError) Error() string { return "record from the kernel side: " + e.what }

// Undecodable marks the error as one that concerns a single record.
func (e *decodeError) Undecodable() bool { return true }

// Hint says what to do.
func (e *decodeError) Hint() string {
	return "this closetrace and its BPF object do not fit together: rebuild it with make generate build"
}

// names are the look-ups that turn the kernel's numbers into words.
type names struct {
	resetReason map[uint32]string // enum sk_rst_reason of the running kernel
	syscall     func(number int32, compat bool) string
	stack       func(id uint32, caller uint64) []string // kernel functions, innermost first; may be nil
	comms       map[[16]uint8]string                    // those of late, so that each need not be made anew
	lastComm    [16]uint8                               // the last of them
	last        string
}

const maxComms = 4096

func (n *names) comm(b *[16]uint8) string {
	if n.lastComm == *b {
		return n.last
	}
	s, ok := n.comms[*b]
	if !ok {
		if n.comms == nil || len(n.comms) == maxComms {
			n.comms = map[[16]uint8]string{}
		}
		s = comm(*b)
		n.comms[*b] = s
	}
	n.lastComm, n.last = *b, s
	return s
}

const (
	recordSize = int(unsafe.Sizeof(bpfEvent{}))
	kindOffset = int(unsafe.Offsetof(bpfEvent{}.Course) + unsafe.Offsetof(bpfCourse{}.Kind))
)

// decode turns a record of the ring buffer (struct event of bpf/event.h) into
// an Event, overwriting all of it. It takes any bytes: too short a record or an
// unknown kind is an error; longer ones are read as far as they are known.
func (n *names) decode(raw []byte, ev *events.Event) error {
	if len(raw) < recordSize {
		return &decodeError{fmt.Sprintf("%d bytes, need %d", len(raw), recordSize)}
	}
	// The twin that bpf2go generates has the layout of the C struct and holds
	// no pointers; its size was checked above. Both architectures read words at any
	// address.
	w := (*bpfEvent)(unsafe.Pointer(unsafe.SliceData(raw)))
	c, p := &w.Course, &w.Parties
	kind := events.Kind(c.Kind)
	if !kind.Valid() {
		return &decodeError{fmt.Sprintf("kind %d is unknown", c.Kind)}
	}
	// Field by field: a literal would be made elsewhere first, and copied.
	*ev = events.Event{}
	ev.Kind, ev.MonoNS, ev.DurationNS, ev.Flags = kind, c.TimeNs, c.DurationNs, events.Flags(c.Flags)
	ev.Sock, ev.Listener, ev.Netns = p.Sock, p.Listener, p.Netns
	ev.CgroupID, ev.SocketCgroupID = p.CgroupId, p.SocketCgroupId
	ev.Local, ev.Remote = address(p.Family, &p.Local, c.LocalPort), address(p.Family, &p.Remote, p.RemotePort)
	ev.TaskFlags, ev.ExitCode = p.TaskFlags, p.ExitCode
	ev.Before, ev.After = events.State(c.Before), events.State(c.After)
	ev.AtReturn, ev.AtRST = events.State(c.AtReturn), events.State(c.AtRst)
	ev.How, ev.Result, ev.SockErr, ev.ShutdownMask = c.How, c.Result, c.SkErr, c.ShutdownMask
	ev.BytesSent, ev.OutputLeft, ev.UnsentLeft = c.BytesSent, c.OutputLeft, c.UnsentLeft
	ev.LingerJiffies, ev.TimeoutJiffies, ev.WaitedJiffies = c.LingerJiffies, c.TimeoutJiffies, uint64(c.WaitedJiffies)
	ev.Linger2Jiffies = c.Linger2
	ev.Children, ev.ChildrenReset, ev.ChildrenDropped = c.Children, c.ChildrenReset, c.ChildrenDropped
	ev.PendingRequests = c.Requests
	ev.UserTimeoutMS, ev.Probes, ev.Retransmits = p.UserTimeout, c.Probes, c.Retransmits
	ev.SegmentBytes, ev.SegmentFlags = p.Segment, c.SegmentFlags
	ev.Inode, ev.SocketUID = p.Inode, p.SocketUid
	if p.Stack >= 0 && n.stack != nil && takesStack(kind) {
		ev.Stack = n.stack(uint32(p.Stack), p.Caller)
	}
	if ev.Flags.Has(events.TaskContext) {
		ev.Task = events.Task{PID: p.Pid, TID: p.Tid, UID: p.Uid, Comm: n.comm(&p.Comm)}
		ev.Syscall = n.syscall(p.Syscall, ev.Flags.Has(events.CompatSyscall))
	}
	if ev.Flags.Has(events.SentRST) && n.resetReason != nil {
		ev.KernelReason = n.resetReason[c.KernelReason]
	}
	if ev.AtRST != events.StateUnknown && kind == events.KindReset {
		ev.Before = ev.AtRST // the socket was in CLOSE when its RST went out
	}
	switch kind {
	case events.KindFIN:
		finStates(ev)
	case events.KindPeerFIN:
		ev.After = afterPeerFIN[ev.Before]
		ev.Flags |= events.PeerFIN
	case events.KindDone:
		ev.After = events.Close
	case events.KindWaitOver:
		ev.Signal, ev.Result = c.Result, 0
	case events.KindShared:
		ev.References, ev.Result = uint32(max(0, c.Result)), 0
	}
	payload(ev, c)
	return nil
}

// takesStack: the kernel side takes a kernel stack where nobody's call may explain an event. In a record of a call the
// id is 0, which is also that of some stack.
func takesStack(kind events.Kind) bool {
	return kind == events.KindReset || kind == events.KindReply || kind == events.KindDone
}

// finStates: tcp_send_fin runs right after the change of state, the tracepoint
// right before it. Either way both states are known.
func finStates(ev *events.Event) {
	switch ev.Before {
	case events.Established, events.FinWait1:
		ev.Before, ev.After = events.Established, events.FinWait1
	case events.CloseWait, events.LastAck:
		ev.Before, ev.After = events.CloseWait, events.LastAck
	}
}

// afterPeerFIN is what tcp_fin does to the state.
var afterPeerFIN = [1 << 8]events.State{
	events.SynRecv: events.CloseWait, events.Established: events.CloseWait,
	events.FinWait1: events.Closing, events.FinWait2: events.TimeWait,
}

// payload turns differences of sequence numbers into bytes of payload: a SYN
// and a FIN take one number each.
func payload(ev *events.Event, c *bpfCourse) {
	switch ev.Before {
	case events.SynSent, events.Listen, events.Close, events.StateUnknown:
		return // nothing can be queued, and the numbers are of the handshake
	}
	ev.UnreadBytes, ev.BytesReceived = c.ReceiveQueue, c.BytesReceived
	if ev.Flags.Has(events.PeerFIN) {
		ev.UnreadBytes = lessOne(ev.UnreadBytes)
		if ev.BytesReceived > 0 {
			ev.BytesReceived--
		}
	}
	ev.UnsentBytes, ev.UnackedBytes = c.Unsent, c.Unacked
	switch ev.Before {
	case events.FinWait1, events.Closing, events.LastAck: // our FIN is the last of it
		if ev.UnsentBytes > 0 {
			ev.UnsentBytes--
		} else {
			ev.UnackedBytes = lessOne(ev.UnackedBytes)
		}
	case events.SynRecv: // our SYN is not acknowledged yet
		ev.UnackedBytes = lessOne(ev.UnackedBytes)
	}
}

func lessOne(n uint32) uint32 {
	if n == 0 {
		return 0
	}
	return n - 1
}

// address keeps a v4-mapped address as the socket has it.
func address(family uint16, addr *[16]uint8, port uint16) netip.AddrPort {
	switch family {
	case 2: // AF_INET, the same on every Linux
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), port)
	case 10: // AF_INET6
		return netip.AddrPortFrom(netip.AddrFrom16(*addr), port)
	}
	return netip.AddrPort{}
}

func comm(b [16]uint8) string {
	if end := bytes.IndexByte(b[:], 0); end >= 0 {
		return string(b[:end])
	}
	return string(b[:])
}
