// Package rawevent decodes the records of the kernel side (struct event of bpf/event.h): those of its ring buffer, and
// those in a recording, which may be of another version of closetrace and of another machine.
package rawevent

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

// Decoder decodes records. Its functions turn numbers of the kernel into words.
type Decoder struct {
	// ResetReason names values of enum sk_rst_reason; nil: the kernel does not have it.
	ResetReason func(uint32) string
	Syscall     func(number int32, compat bool) string
	Stack       func(id uint32, caller uint64) []string // kernel functions, innermost first; may be nil

	comms    map[[16]uint8]string // recent ones
	lastComm [16]uint8            // the most recent one
	last     string
}

const maxComms = 4096

// Comm is the function [Comm]. Of a recent name it returns the same string again.
func (d *Decoder) Comm(b *[16]uint8) string {
	if d.lastComm == *b {
		return d.last
	}
	s, ok := d.comms[*b]
	if !ok {
		if d.comms == nil || len(d.comms) == maxComms {
			d.comms = map[[16]uint8]string{}
		}
		s = Comm(*b)
		d.comms[*b] = s
	}
	d.lastComm, d.last = *b, s
	return s
}

const (
	recordSize = int(unsafe.Sizeof(event{}))
	kindOffset = int(unsafe.Offsetof(event{}.Progress) + unsafe.Offsetof(progress{}.Kind))
)

// Decode converts a record of the ring buffer (struct event of bpf/event.h) and overwrites ev. It accepts any bytes: a
// record that is too short or of an unknown kind is an error, and it ignores what a longer one has at its end.
func (d *Decoder) Decode(raw []byte, ev *events.Event) error {
	if len(raw) < recordSize {
		return undecodable(fmt.Sprintf("%d bytes, need %d", len(raw), recordSize))
	}
	// The generated type has the layout of the C struct and no pointers, and the size was checked. Both
	// architectures can read words at any address.
	w := (*event)(unsafe.Pointer(unsafe.SliceData(raw)))
	c, p := &w.Progress, &w.Endpoints
	if !events.Kind(c.Kind).Valid() {
		return undecodable(fmt.Sprintf("kind %d is unknown", c.Kind))
	}
	copyFacts(ev, c, p)
	d.addNames(ev, c, p)
	interpret(ev, c)
	return nil
}

// Outline converts a record only as far as a recording needs it, if its event needs no look-up: calls name their actor,
// and the owner of a received FIN is looked up when it is replayed. Others it decodes.
func (d *Decoder) Outline(raw []byte, ev *events.Event) error {
	if len(raw) < recordSize {
		return d.Decode(raw, ev)
	}
	w := (*event)(unsafe.Pointer(unsafe.SliceData(raw))) // as in Decode
	c, p := &w.Progress, &w.Endpoints
	kind, flags := events.Kind(c.Kind), events.Flags(c.Flags)
	if kind != events.KindClose && kind != events.KindShutdown && kind != events.KindPeerFIN {
		return d.Decode(raw, ev)
	}
	*ev = events.Event{}
	ev.Kind, ev.MonoNS, ev.Flags, ev.Sock, ev.Listener = kind, c.TimeNs, flags, p.Sock, p.Listener
	ev.CgroupID, ev.SocketCgroupID = p.CgroupId, p.SocketCgroupId
	d.nameNumbers(ev, c, p)
	return nil
}

// copyFacts overwrites ev with what needs no name.
func copyFacts(ev *events.Event, c *progress, p *endpoints) {
	// Field by field, because a literal would be built elsewhere and copied.
	*ev = events.Event{}
	ev.Kind, ev.MonoNS, ev.DurationNS, ev.Flags = events.Kind(c.Kind), c.TimeNs, c.DurationNs, events.Flags(c.Flags)
	ev.Sock, ev.Listener, ev.Netns = p.Sock, p.Listener, p.Netns
	ev.CgroupID, ev.SocketCgroupID = p.CgroupId, p.SocketCgroupId
	ev.Local, ev.Remote = Address(p.Family, &p.Local, c.LocalPort), Address(p.Family, &p.Remote, p.RemotePort)
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
func (d *Decoder) addNames(ev *events.Event, c *progress, p *endpoints) {
	if p.Stack >= 0 && d.Stack != nil && mayHaveStack(ev.Kind) {
		ev.Stack = d.Stack(uint32(p.Stack), p.Caller)
	}
	if ev.Flags.Has(events.TaskContext) {
		ev.Task = events.Task{PID: p.Pid, TID: p.Tid, UID: p.Uid, Comm: d.Comm(&p.Comm)}
		if p.Process[0] != 0 && p.Process != p.Comm {
			ev.Task.Process = d.Comm(&p.Process)
		}
	}
	d.nameNumbers(ev, c, p)
}

// nameNumbers names the system call and the reason of a RST.
func (d *Decoder) nameNumbers(ev *events.Event, c *progress, p *endpoints) {
	if ev.Flags.Has(events.TaskContext) {
		ev.Syscall = d.Syscall(p.Syscall, ev.Flags.Has(events.CompatSyscall))
	}
	if ev.Flags.Has(events.SentRST) && d.ResetReason != nil {
		ev.KernelReason = d.ResetReason(c.KernelReason)
	}
}

// interpret sets what follows from the kind of an event.
func interpret(ev *events.Event, c *progress) {
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
func payload(ev *events.Event, c *progress) {
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

// Address returns the address as the socket has it: a v4-mapped one stays IPv6.
func Address(family uint8, addr *[16]uint8, port uint16) netip.AddrPort {
	switch family {
	case afINET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), port)
	case afINET6:
		return netip.AddrPortFrom(netip.AddrFrom16(*addr), port)
	}
	return netip.AddrPort{}
}

// Comm returns the name of a task in a field of a record.
func Comm(b [16]uint8) string {
	if end := bytes.IndexByte(b[:], 0); end >= 0 {
		return string(b[:end])
	}
	return string(b[:])
}
