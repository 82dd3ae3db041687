package classify

import (
	"net/netip"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// conclusion returns the ending that a rule gives.
func (c *Classifier) conclusion(f *fact, r *rule, inferred string) *events.Ending {
	c.phrase = r.why(c.phrase[:0].processEnd(f), f).thrownAway(f)
	e := c.ending
	*e = events.Ending{} // field by field below: a literal would be built elsewhere and copied
	e.Time, e.MonoNS = time.Unix(0, int64(f.MonoNS)+c.header.WallOffsetNS), f.MonoNS
	e.Path, e.Title, e.Cause, e.Doubt = r.path, r.title, c.cause(c.phrase), doubt(f, r, inferred)
	e.Local, e.Remote, e.Netns, e.CgroupID = unmapped(f.Local), unmapped(f.Remote), f.Netns, f.CgroupID
	e.Service = f.service()
	e.Before, e.After, e.ConnectionID = f.Before, f.After, connectionID(f.Event)
	e.FIN, e.RST, e.KernelReason = f.sent(events.SentFIN), f.sent(events.SentRST), f.KernelReason
	f.prove(&e.Evidence)
	e.DurationNS, e.Harmless = f.DurationNS, f.isHarmless()
	e.Earlier, e.Peer = c.explanation(f.past, f), c.explanation(f.peer, f)
	if e.ConnectionID == 0 && f.isOf(f.past) {
		e.ConnectionID = f.past.connectionID
	}
	if f.Kind == events.KindClose && f.Remote.Port() == 0 && f.past != nil {
		e.Local, e.Remote = f.past.local, f.past.remote // tcp_disconnect has cleared the addresses
	}
	switch {
	case f.isBeforeUnseen():
		e.Before = events.StateUnknown
	case r.path == events.ReplyFINWait1OOO || r.path == events.CloseRSTLinger2Late:
		e.Before = events.FinWait1 // tcp_rcv_state_process ends the socket, then the reply is sent
	}
	if f.Kind == events.KindReply {
		e.RepliesLeftOut, c.repliesLeftOut = c.repliesLeftOut, 0
	}
	c.attribute(f, r, e)
	setOwner(e, f)
	return e
}

// service returns which end is that of the service.
func (f *fact) service() events.End {
	switch {
	case f.sent(events.Accepted), f.Kind == events.KindReply && f.SegmentFlags&(thSYN|thACK) == thSYN:
		return events.EndLocal
	case f.sent(events.Connected):
		return events.EndRemote
	}
	return events.EndUnknown
}

// unmapped returns an address in the one form that all lines have: IPv4 on an IPv6
// socket is IPv4.
func unmapped(a netip.AddrPort) netip.AddrPort {
	if !a.Addr().Is4In6() {
		return a
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// explanation returns the form of an earlier ending that is part of a later one.
func (c *Classifier) explanation(p *past, f *fact) *events.Past {
	if p == nil {
		return nil
	}
	if len(c.pasts) == 0 {
		c.pasts = make([]events.Past, 64)
	}
	e := &c.pasts[0]
	c.pasts = c.pasts[1:]
	e.Path, e.AgoNS, e.Actor = p.path, uint64(p.ago(f.Event)), p.actor
	return e
}

// attribute sets which process caused an ending, and by what. A timer and a
// segment are not attributed to the task that the kernel interrupted for them.
func (c *Classifier) attribute(f *fact, r *rule, e *events.Ending) {
	e.Trigger, e.Signal = f.trigger()
	if r.by != "" {
		e.Trigger, e.Signal = r.by, 0
	}
	if f.Signal != 0 {
		e.Signal = int(f.Signal)
	}
	if e.Trigger == events.TriggerLastReference || e.Trigger == events.TriggerWrite {
		e.Syscall = f.Syscall
	}
	switch e.Trigger {
	case events.TriggerSegment, events.TriggerTimer:
		e.CgroupID = 0
	default:
		if f.sent(events.TaskContext) {
			e.Actor, e.Stack = c.task(&f.Task), f.CallStack
		}
	}
	setCgroups(e, f.Event)
}

// setCgroups sets the cgroup of the socket and, if it is another, of the actor.
func setCgroups(e *events.Ending, ev *events.Event) {
	e.Cgroup, e.ContainerNames = ev.SocketCgroupPath(), ev.ContainerNames
	switch {
	case e.Actor == nil:
	case ev.SocketCgroupID == 0:
		e.Cgroup = ev.Cgroup
	case ev.SocketCgroupID != ev.CgroupID:
		e.ActorCgroup = ev.Cgroup
	}
}

// isHarmless reports whether a RST lost nothing. Both sides had sent their FIN and
// all output was acknowledged; or the RST answered a segment without data after
// this side had sent its FIN, and ended no socket, whose peer may still be sending;
// or the connection was a probe.
func (f *fact) isHarmless() bool {
	switch f.Kind {
	case events.KindClose:
		return f.isProbe()
	case events.KindDone:
		closed := f.in(events.LastAck, events.Closing) && f.UnsentBytes+f.UnackedBytes == 0
		return f.SockErr == econnreset && (closed || f.isProbed())
	case events.KindReply:
		return f.SegmentBytes == 0 && f.past != nil && f.past.fin && !inCloseAfter(f)
	}
	return false
}

// doubt returns why a verdict is inferred, "" if it was observed.
func doubt(f *fact, r *rule, inferred string) string {
	if r.doubt != "" {
		return r.doubt
	}
	if doubt := unproven(f, r.path); doubt != "" {
		return doubt
	}
	if doubt := afterLoss(f, r.path); doubt != "" {
		return doubt
	}
	switch {
	case r.path == events.CloseLingerTimeout && f.sent(events.ReturnUnseen):
		return "the return of close(2) is not observed in tracepoint mode; no ACK and no signal arrived in time"
	case f.sent(events.ReturnUnseen|events.SentFIN) && f.UnsentLeft > 0:
		return "whether the FIN has left is computed from the windows before it: tracepoint mode does not observe the return"
	case f.Kind == events.KindClose && !f.sent(events.UnderLock) && !f.sent(events.ReturnUnseen):
		return "the evidence was read before the socket lock was taken"
	case inferred != "":
		return inferred
	case f.isAfterEnd(r.path) && f.past != nil:
		return f.past.doubt
	}
	return ""
}

// prove sets the evidence of an ending. It must be zero before.
func (f *fact) prove(v *events.Evidence) {
	v.UnreadBytes, v.UnsentBytes, v.UnackedBytes = f.UnreadBytes, f.UnsentBytes, f.UnackedBytes
	v.BytesSent, v.BytesReceived = f.BytesSent, f.BytesReceived
	f.proveProgress(v)
	v.FINUnsent = f.UnsentLeft > 0 && f.sent(events.SentFIN)
	v.LingerOn, v.Linger, v.Linger2 = f.sent(events.LingerOn), f.duration(f.LingerJiffies), f.linger2()
	v.Waited = f.lingerWait()
	v.SockErr, v.Errno, v.PeerFIN = int(f.SockErr), int(max(0, -f.Result)), f.sent(events.PeerFIN)
	v.PeerFINAgo = time.Duration(f.PeerFINAgoNS)
	v.Children, v.ChildrenReset, v.PendingRequests = f.Children, f.ChildrenReset, f.PendingRequests
	v.SegmentSeq, v.SegmentAck, v.RST = f.SegmentSeq, f.SegmentAck, f.RST
	v.SegmentBytes, v.UserTimeout = f.SegmentBytes, time.Duration(f.UserTimeoutMS)*time.Millisecond
	v.Probes, v.Retransmits = uint32(f.Probes), uint32(f.Retransmits)
	v.Unanswered, v.Idle = f.unanswered(), f.duration(f.idleJiffies())
	if f.ICMP != nil {
		v.ICMP = string(phrase(nil).icmp(f.ICMP))
	}
	v.Retransmitting = time.Duration(f.RetransmittingMS) * time.Millisecond
	v.References, v.OtherHolders = f.References, f.OtherHolders
	v.SIGPIPE = f.Kind == events.KindEPIPE && f.How != 0
	v.MPTCP, v.NetfilterHook = f.sent(events.MPTCP), f.NetfilterHook
}

// proveProgress sets how far the connection had come. The kernel counts the time since
// data was sent or received from the handshake, if there was none.
func (f *fact) proveProgress(v *events.Evidence) {
	if f.BytesReceived > 0 {
		v.LastReceived = f.duration(uint64(f.IdleReceivedJiffies))
	}
	if f.BytesSent > 0 {
		v.LastSent = f.duration(uint64(f.IdleSentJiffies))
	}
	v.SRTT, v.Retransmitted = time.Duration(f.SRTTUS)*time.Microsecond, f.Retransmitted
	v.SndNxt = f.SndNxt
	if f.FirstReceived != 0 {
		v.RcvNxt = receivedEnd(f.Event)
	}
}
