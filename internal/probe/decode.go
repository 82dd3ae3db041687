package probe

import (
	"bytes"
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
)

// undecodable returns the error for one record that this build cannot read.
func undecodable(what string) error {
	return hint.New(hint.Undecodable, "record from the kernel side: "+what,
		"this closetrace and its BPF object do not fit together: rebuild it with make generate build")
}

// names turns numbers of the kernel into words.
type names struct {
	// resetReasonOf names values of enum sk_rst_reason; nil: the kernel does not have it.
	resetReasonOf func(uint32) string
	syscall       func(number int32, compat bool) string
	stack         func(id uint32, caller uint64) []string // kernel functions, innermost first; may be nil
	comms         map[[16]uint8]string                    // recent ones
	lastComm      [16]uint8                               // the most recent one
	last          string
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
	kindOffset = int(unsafe.Offsetof(bpfEvent{}.Progress) + unsafe.Offsetof(bpfProgress{}.Kind))
)

// decode converts a record of the ring buffer (struct event of bpf/event.h) and overwrites ev. It accepts any bytes: a
// record that is too short or of an unknown kind is an error, and it ignores what a longer one has at its end.
func (n *names) decode(raw []byte, ev *events.Event) error {
	if len(raw) < recordSize {
		return undecodable(fmt.Sprintf("%d bytes, need %d", len(raw), recordSize))
	}
	// The type that bpf2go generates has the layout of the C struct and no pointers, and the size was checked. Both
	// architectures can read words at any address.
	w := (*bpfEvent)(unsafe.Pointer(unsafe.SliceData(raw)))
	c, p := &w.Progress, &w.Endpoints
	if !events.Kind(c.Kind).Valid() {
		return undecodable(fmt.Sprintf("kind %d is unknown", c.Kind))
	}
	copyFacts(ev, c, p)
	n.addNames(ev, c, p)
	interpret(ev, c)
	return nil
}

// outline converts a record only as far as a recording needs it ([Options.RecordsOnly]), if its event needs no look-up:
// calls name their actor, and the owner of a received FIN is looked up when it is replayed. Others it decodes.
func (n *names) outline(raw []byte, ev *events.Event) error {
	if len(raw) < recordSize {
		return n.decode(raw, ev)
	}
	w := (*bpfEvent)(unsafe.Pointer(unsafe.SliceData(raw))) // as in decode
	c, p := &w.Progress, &w.Endpoints
	kind, flags := events.Kind(c.Kind), events.Flags(c.Flags)
	if kind != events.KindClose && kind != events.KindShutdown && kind != events.KindPeerFIN {
		return n.decode(raw, ev)
	}
	*ev = events.Event{}
	ev.Kind, ev.MonoNS, ev.Flags, ev.Sock, ev.Listener = kind, c.TimeNs, flags, p.Sock, p.Listener
	ev.CgroupID, ev.SocketCgroupID = p.CgroupId, p.SocketCgroupId
	n.nameNumbers(ev, c, p)
	return nil
}

// copyFacts overwrites ev with what needs no name.
func copyFacts(ev *events.Event, c *bpfProgress, p *bpfEndpoints) {
	// Field by field, because a literal would be built elsewhere and copied.
	*ev = events.Event{}
	ev.Kind, ev.MonoNS, ev.DurationNS, ev.Flags = events.Kind(c.Kind), c.TimeNs, c.DurationNs, events.Flags(c.Flags)
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
	ev.PendingRequests, ev.BacklogLimit = c.Requests, c.BacklogLimit
	ev.FirstSent, ev.FirstReceived, ev.SndNxt = c.FirstSent, c.FirstReceived, c.SndNxt
	ev.IdleReceivedJiffies, ev.IdleSentJiffies = c.IdleReceived, c.IdleSent
	ev.SRTTUS, ev.Retransmitted = c.SrttUs, c.Retransmitted
	ev.RetransmittingMS, ev.ProbingJiffies = c.Retransmitting, c.Probing
	if c.IcmpErrno != 0 {
		ev.ICMP = &events.ICMPError{
			Errno: c.IcmpErrno, Origin: uint8(c.Icmp >> 16), Type: uint8(c.Icmp >> 8), Code: uint8(c.Icmp),
		}
	}
	ev.UserTimeoutMS, ev.Probes, ev.Retransmits = p.UserTimeout, c.Probes, c.Retransmits
	ev.SegmentBytes, ev.SegmentFlags = p.Segment, c.SegmentFlags
	ev.SegmentSeq, ev.SegmentAck = c.SegmentSeq, c.SegmentAck
	if p.RstTtl != 0 {
		ev.RST = &events.RSTHeaders{
			TTL: p.RstTtl, Window: p.RstWindow, IPID: p.RstIpId, Options: events.TCPOptions(p.RstOptions),
		}
	}
	ev.Inode, ev.SocketUID = p.Inode, p.SocketUid
}

// addNames adds the task, the stack, and the names of numbers.
func (n *names) addNames(ev *events.Event, c *bpfProgress, p *bpfEndpoints) {
	if p.Stack >= 0 && n.stack != nil && mayHaveStack(ev.Kind) {
		ev.Stack = n.stack(uint32(p.Stack), p.Caller)
	}
	if ev.Flags.Has(events.TaskContext) {
		ev.Task = events.Task{PID: p.Pid, TID: p.Tid, UID: p.Uid, Comm: n.comm(&p.Comm)}
		if p.Process[0] != 0 && p.Process != p.Comm {
			ev.Task.Process = n.comm(&p.Process)
		}
	}
	n.nameNumbers(ev, c, p)
}

// nameNumbers names the system call and the reason of a RST.
func (n *names) nameNumbers(ev *events.Event, c *bpfProgress, p *bpfEndpoints) {
	if ev.Flags.Has(events.TaskContext) {
		ev.Syscall = n.syscall(p.Syscall, ev.Flags.Has(events.CompatSyscall))
	}
	if ev.Flags.Has(events.SentRST) && n.resetReasonOf != nil {
		ev.KernelReason = n.resetReasonOf(c.KernelReason)
	}
}

// interpret sets what follows from the kind of an event.
func interpret(ev *events.Event, c *bpfProgress) {
	if ev.AtRST != events.StateUnknown && ev.Kind == events.KindReset {
		ev.Before = ev.AtRST // the socket is in CLOSE when it sends its RST
	}
	switch ev.Kind {
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
	case events.KindReject:
		ev.NetfilterHook, ev.How = netfilterHook(c.How), 0
	}
	payload(ev, c)
	if ev.Kind == events.KindReset && ev.Flags.Has(events.MPTCP) {
		ev.UnreadBytes, ev.Result = ev.UnreadBytes+uint32(max(0, c.Result)), 0
	}
}

// netfilterHook returns the name of a value of enum nf_inet_hooks, as rules have it.
func netfilterHook(n uint8) string {
	names := [...]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "INGRESS"}
	if int(n) < len(names) {
		return names[n]
	}
	return fmt.Sprintf("hook %d", n)
}

// mayHaveStack reports whether the kernel side takes a kernel stack for this kind: for what may not be part of a
// call. In the record of a call the id is 0, which is also the id of a stack.
func mayHaveStack(kind events.Kind) bool {
	return kind == events.KindReset || kind == events.KindReply || kind == events.KindDone
}

// finStates sets both states of a FIN. tcp_send_fin runs right after the change of state, the tracepoint right before
// it.
func finStates(ev *events.Event) {
	switch ev.Before {
	case events.Established, events.FinWait1:
		ev.Before, ev.After = events.Established, events.FinWait1
	case events.CloseWait, events.LastAck:
		ev.Before, ev.After = events.CloseWait, events.LastAck
	}
}

// afterPeerFIN is the state after tcp_fin, by the state before.
var afterPeerFIN = [1 << 8]events.State{
	events.SynRecv: events.CloseWait, events.Established: events.CloseWait,
	events.FinWait1: events.Closing, events.FinWait2: events.TimeWait,
}

// payload converts differences of sequence numbers into bytes of payload: a SYN and a FIN have a sequence number each.
func payload(ev *events.Event, c *bpfProgress) {
	switch ev.Before {
	case events.SynSent, events.Listen, events.StateUnknown:
		return // nothing is queued; the numbers are those of the handshake
	}
	ev.UnreadBytes, ev.BytesReceived = c.ReceiveQueue, c.BytesReceived
	if ev.Flags.Has(events.PeerFIN) {
		ev.UnreadBytes = lessOne(ev.UnreadBytes)
		if ev.BytesReceived > 0 {
			ev.BytesReceived--
		}
	}
	if ev.Before == events.Close {
		return // what was to be sent was given up with the connection
	}
	ev.UnsentBytes, ev.UnackedBytes = c.Unsent, c.Unacked
	switch ev.Before {
	case events.FinWait1, events.Closing, events.LastAck: // this side's FIN is the last byte
		if ev.UnsentBytes > 0 {
			ev.UnsentBytes--
		} else {
			ev.UnackedBytes = lessOne(ev.UnackedBytes)
		}
	case events.SynRecv: // this side's SYN is unacknowledged
		ev.UnackedBytes = lessOne(ev.UnackedBytes)
	}
}

func lessOne(n uint32) uint32 {
	if n == 0 {
		return 0
	}
	return n - 1
}

// Address families of Linux.
const (
	afINET  = 2
	afINET6 = 10
)

// address returns the address as the socket has it: a v4-mapped one stays IPv6.
func address(family uint8, addr *[16]uint8, port uint16) netip.AddrPort {
	switch family {
	case afINET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), port)
	case afINET6:
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
