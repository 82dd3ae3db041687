package classify

import (
	"slices"
	"strings"

	"github.com/closetrace/closetrace/internal/events"
)

// The conditions of groups and rules. A condition that other code needs as well is a
// method of fact.

func always(*fact) bool { return true }

// The state before.

func withoutSocket(f *fact) bool { return f.Before == events.StateUnknown }
func inSynSent(f *fact) bool     { return f.Before == events.SynSent }
func inSynRecv(f *fact) bool     { return f.Before == events.SynRecv }
func inNewSynRecv(f *fact) bool  { return f.Before == events.NewSynRecv }
func inCloseWait(f *fact) bool   { return f.Before == events.CloseWait }
func inTimeWait(f *fact) bool    { return f.Before == events.TimeWait }
func inListen(f *fact) bool      { return f.Before == events.Listen }
func inClose(f *fact) bool       { return f.Before == events.Close }
func notConnected(f *fact) bool  { return f.in(events.Close, events.Listen) }

// What was sent, and in which state.

func sentRST(f *fact) bool              { return f.sent(events.SentRST) }
func sentNoRST(f *fact) bool            { return !f.sent(events.SentRST) }
func sentFIN(f *fact) bool              { return f.sent(events.SentFIN) }
func sentFINInEstablished(f *fact) bool { return sentFIN(f) && f.Before == events.Established }
func sentFINInCloseWait(f *fact) bool   { return sentFIN(f) && f.Before == events.CloseWait }
func sentFINInSynRecv(f *fact) bool     { return sentFIN(f) && f.Before == events.SynRecv }
func resetAfterBothFINs(f *fact) bool   { return sentRST(f) && f.in(events.Closing, events.LastAck) }

// A close that sends a RST: __tcp_close has four of them.

// linger0Reset: inside a close only SO_LINGER {1,0} (and repair) calls
// tcp_disconnect. The kernel checks unread data before it. If the call of
// tcp_disconnect was not seen, unread data decides.
func linger0Reset(f *fact) bool {
	if f.sent(events.Disconnected) {
		return true
	}
	return f.linger0() && f.UnreadBytes == 0 && resetWithoutFIN(f) && f.AtRST == f.Before
}

func linger0ResetAfterBothFINs(f *fact) bool {
	return linger0Reset(f) && f.in(events.Closing, events.LastAck)
}

// resetWithoutFIN: of the four resets, the two that come instead of a FIN.
func resetWithoutFIN(f *fact) bool { return !f.sent(events.SentFIN) }

func resetWithUnread(f *fact) bool { return resetWithoutFIN(f) && hasUnread(f) }
func resetInFinWait2(f *fact) bool { return f.Linger2Jiffies < 0 && f.AtRST == events.FinWait2 }
func resetAfterFIN(f *fact) bool   { return sentFIN(f) || f.afterShutdown() }
func hasUnread(f *fact) bool       { return f.UnreadBytes > 0 }
func inReportedCall(f *fact) bool  { return f.sent(events.InReportedCall) }
func reportedInFinWait2(f *fact) bool {
	return inReportedCall(f) && f.Linger2Jiffies < 0 && f.Before == events.FinWait2
}

// A close that sends nothing, or waits.

func sentNothing(f *fact) bool { return f.Flags&(events.SentFIN|events.SentRST) == 0 }

// sentNothingOrEnded: each silent close is one or the other, and a close that sends a FIN is neither.
func sentNothingOrEnded(f *fact) bool {
	return sentNothing(f) || sentNoRST(f) && f.After == events.Close
}

// connectingWithICMP: the kernel only records an ICMP error that comes while the
// task is in connect(2) (tcp_v4_err), and the application sees it in poll(2) and SO_ERROR.
func connectingWithICMP(f *fact) bool { return f.Before == events.SynSent && f.ICMP != nil }
func silentInRepair(f *fact) bool     { return f.sent(events.Repair) && sentNothing(f) }
func silentLinger0(f *fact) bool {
	return f.linger0() && sentNothing(f) && f.in(events.Closing, events.LastAck)
}
func netnsGone(f *fact) bool          { return f.sent(events.NetnsGone) }
func closedWithNetns(f *fact) bool    { return netnsGone(f) && f.After == events.Close }
func closedWhileWaiting(f *fact) bool { return f.AtReturn == events.Close && f.OutputLeft > 0 }
func waitInterrupted(f *fact) bool {
	return f.unacknowledged() && (f.Signal != 0 || f.WaitedJiffies < f.timeout())
}

// A listener.

func movedConnections(f *fact) bool   { return f.moved() > 0 && f.childrenSeen() }
func hasPendingRequests(f *fact) bool { return f.PendingRequests > 0 }
func requestsMayMigrate(f *fact) bool { return hasPendingRequests(f) && f.sent(events.MayMigrate) }
func inAcceptQueue(f *fact) bool      { return f.Listener != 0 || f.isCalledBy("inet_csk_listen_stop") }

// A socket that had ended before.

func endedByICMP(f *fact) bool { return f.isEndedAs(events.RecvICMP) }
func endedWhileConnecting(f *fact) bool {
	if f.past == nil || f.past.before != events.SynSent {
		return false
	}
	return f.past.path.Family() != "shutdown" && f.past.path.Family() != "disconnect"
}
func endedByDisconnect(f *fact) bool {
	return f.isEndedBy("disconnect") || f.isEndedAs(events.ShutdownSynSent, events.ShutdownListen)
}
func endedByRST(f *fact) bool      { return f.isEndedAs(events.RecvRST, events.ShutdownData) }
func endedBySockDiag(f *fact) bool { return f.isEndedAs(events.AbortDiag, events.AbortDiagListen) }
func endedByTimer(f *fact) bool    { return f.isEndedBy("abort") }
func hasResetError(f *fact) bool   { return f.hasError(econnreset, epipe) }
func hasRefusedError(f *fact) bool { return f.hasError(econnrefused) }
func hasTimeoutError(f *fact) bool { return f.hasError(etimedout) }
func hasAbortError(f *fact) bool   { return f.hasError(econnaborted) }
func receivedFIN(f *fact) bool     { return f.sent(events.PeerFIN) }
func sentFINSecond(f *fact) bool   { return sentFINFirst(f) && f.past.before == events.CloseWait }

// sentFINFirst: tcp_disconnect on a closed socket clears the remote port, and that the FIN of the peer was received.
func sentFINFirst(f *fact) bool {
	return (receivedFIN(f) || f.Remote.Port() == 0) && f.past != nil && f.past.fin
}

// hasDisconnectError: tcp_disconnect sets ECONNRESET and clears the remote port, which a RST leaves.
func hasDisconnectError(f *fact) bool { return f.hasError(econnreset) && f.Remote.Port() == 0 }

// neverConnected: a socket that was bound, or whose connect(2) failed, has a local port.
func neverConnected(f *fact) bool {
	return f.Remote.Port() == 0 && f.FirstReceived == 0 && f.BytesReceived == 0
}

// A shutdown, and what looks like one in tracepoint mode.

func sentFINInBothDirections(f *fact) bool { return sentFIN(f) && f.How == bothDirections }
func isForReading(f *fact) bool            { return f.How == 1 }
func isForWriting(f *fact) bool            { return f.How&2 != 0 }
func inShutdownCall(f *fact) bool          { return f.Syscall == "shutdown" }
func notInShutdownCall(f *fact) bool       { return !inShutdownCall(f) }
func inConnectCall(f *fact) bool           { return f.Syscall == "connect" }
func isConnectByStates(f *fact) bool       { return isByStates(f, events.TriggerConnect) }

// isSockDiagByStates: SOCK_DESTROY is a sendmsg(2) to netlink.
func isSockDiagByStates(f *fact) bool { return isByStates(f, events.TriggerLastReference) }

// isByStates reports whether a change of state stands for a disconnect by a call.
func isByStates(f *fact, call events.Trigger) bool {
	if !f.sent(events.ReturnUnseen | events.Disconnected) {
		return false
	}
	t, _ := f.trigger()
	return t == call
}

// MPTCP.

func isSubflow(f *fact) bool            { return f.sent(events.MPTCP) }
func subflowReset(f *fact) bool         { return isSubflow(f) && sentRST(f) }
func subflowInEstablished(f *fact) bool { return isSubflow(f) && f.Before == events.Established }
func subflowInCloseWait(f *fact) bool   { return isSubflow(f) && f.Before == events.CloseWait }

// resetByMPTCP: the timers of TCP run on a subflow as on any socket, and MPTCP has no part in the RST that they send.
func resetByMPTCP(f *fact) bool {
	return isSubflow(f) && !f.isCalledBy("tcp_keepalive_timer", "tcp_out_of_resources") && !keepaliveTimedOut(f)
}
func refusedByMPTCP(f *fact) bool { return strings.HasPrefix(f.KernelReason, "MPTCP_") }

// sentByHandshake: the FIN of an earlier shutdown, which the end of the handshake sends. A task that holds the lock in
// another call handles the last ACK of the handshake when it releases the lock (release_sock). In a close or a
// shutdown, the FIN may be that of the call itself, of which only the beginning was missed.
func sentByHandshake(f *fact) bool {
	if isSubflow(f) {
		return false
	}
	inOther := f.ShutdownMask&sendShutdown != 0 && !f.sent(events.FileClosing) && notInShutdownCall(f)
	return !f.sent(events.TaskContext) || inOther
}

// A RST or an end by a task.

func disconnectMissing(f *fact) bool {
	return f.sent(events.TaskContext) && slices.Contains(f.missing, "tcp_disconnect")
}
func abortedByTask(f *fact) bool {
	return f.sent(events.TaskContext) && (f.SockErr == econnaborted || f.isCalledBy("tcp_abort"))
}

// A RST or an end by a timer.

func isOrphan(f *fact) bool             { return f.sent(events.Orphan) }
func isOwned(f *fact) bool              { return !isOrphan(f) }
func orphanInFinWait2(f *fact) bool     { return isOrphan(f) && f.Before == events.FinWait2 }
func ownedWithUserTimeout(f *fact) bool { return isOwned(f) && f.UserTimeoutMS > 0 }

// lingers: close(2) of the last descriptor waits under SO_LINGER, and will return 0 whatever ends the connection.
func lingers(f *fact) bool {
	return isOwned(f) && f.sent(events.FileClosing) && f.sent(events.LingerOn) && finUnacknowledged(f)
}

// isClosing: close(2) of the last descriptor has begun, and waits under SO_LINGER or did just before.
func isClosing(f *fact) bool {
	return isOwned(f) && f.sent(events.FileClosing) && f.sent(events.LingerOn)
}

// keepaliveTimedOut: tcp_keepalive_timer sends its RST before it sets the error,
// which comes with the tcp_done that follows.
func keepaliveTimedOut(f *fact) bool { return f.sent(events.KeepAlive) && f.SockErr == etimedout }

func finUnacknowledged(f *fact) bool {
	return f.in(events.FinWait1, events.Closing, events.LastAck)
}

// endedInOrder reports whether a socket in FIN_WAIT2 became a TIME_WAIT entry (tcp_time_wait) while an error was
// pending that did not end it, for example of an ICMP message under IP_RECVERR. All its output is acknowledged: only
// keepalive and the FIN_WAIT2 timer may end it, and they send a RST first.
func endedInOrder(f *fact) bool {
	return f.Kind == events.KindDone && f.Before == events.FinWait2 && f.SockErr != 0 &&
		!f.hasError(econnreset, econnaborted, etimedout) &&
		!slices.Contains(f.missing, "tcp_send_active_reset") && !slices.Contains(f.missing, "tcp:tcp_send_reset")
}

// orphanOutOfMemory: tcp_out_of_resources ended the socket, without a RST if the peer had not answered for long.
func orphanOutOfMemory(f *fact) bool { return isOrphan(f) && f.isCalledBy("tcp_out_of_resources") }

// timedOut: tcp_write_err passes on an ICMP error that came before.
func timedOut(f *fact) bool          { return f.SockErr != 0 && !endedInOrder(f) }
func timedOutInSynSent(f *fact) bool { return timedOut(f) && inSynSent(f) }
func synAckTimedOut(f *fact) bool {
	return timedOut(f) && (inSynRecv(f) || f.sent(events.FastOpenChild))
}
func orphanTimedOut(f *fact) bool { return timedOut(f) && isOrphan(f) }

// userTimedOut follows tcp_write_timeout and tcp_probe_timer (net/ipv4/tcp_timer.c).
// In SYN_SENT the number of SYNs decides first, and TCP_USER_TIMEOUT only if its
// time is over. Later, TCP_USER_TIMEOUT replaces the number of retransmissions, of
// orphans too. A probe is checked against the time since the first one.
func userTimedOut(f *fact) bool {
	switch {
	case !timedOut(f) || f.UserTimeoutMS == 0:
		return false
	case inSynSent(f):
		return f.RetransmittingMS >= f.UserTimeoutMS
	case f.probing() && f.ProbingJiffies > 0:
		return f.duration(uint64(f.ProbingJiffies)) >= f.userTimeout()
	case f.probing():
		return isOwned(f) // since when it probes is unknown
	}
	return true
}

// A RST or an end by a segment.

// newInClose: the handshake has just made the socket, and its listener is closed.
func newInClose(f *fact) bool {
	return inClose(f) && !f.sent(events.TaskContext) && f.Inode == 0
}
func notShutDown(f *fact) bool { return f.ShutdownMask == 0 }
func hasAnyError(f *fact) bool { return f.SockErr != 0 }

var icmpHandlers = []string{"tcp_v4_err", "tcp_v6_err", "icmp_rcv", "icmpv6_rcv", "tcp_req_err"}

// refusedByICMP reports whether a handshake ended with an error that no RST, timer or SOCK_DESTROY has of its own. A
// timer passes on that of an ICMP message that came while a task held the lock (tcp_v4_err, tcp_write_err).
func refusedByICMP(f *fact) bool {
	return f.in(events.SynSent, events.SynRecv) &&
		!f.hasError(resetError(f.Before), econnreset, etimedout, econnaborted, epipe)
}

// refusedUnseen reports whether only the error shows that a RST refused a connection: ICMP port unreachable sets the
// same one.
func refusedUnseen(f *fact) bool {
	return inSynSent(f) && f.wasReset() && !f.hasStack() && f.RST == nil
}
func inListenWithoutSYN(f *fact) bool { return inListen(f) && f.SegmentFlags&thSYN == 0 }
func invalidSYN(f *fact) bool         { return f.KernelReason == "INVALID_SYN" }
func orphanInLinger2(f *fact) bool    { return isOrphan(f) && f.Linger2Jiffies < 0 && f.SockErr == 0 }
func orphanWithoutError(f *fact) bool { return isOrphan(f) && f.SockErr == 0 && inCloseAfter(f) }
func openWithError(f *fact) bool      { return isOwned(f) && f.SockErr != 0 && !isClosing(f) }
func isClosed(f *fact) bool           { return isOrphan(f) || isClosing(f) }
func inCloseAfter(f *fact) bool       { return f.After == events.Close }

// peerFinished: once the peer's FIN was received, recv(2) returns 0 before it looks for an error (tcp_recvmsg_locked).
func peerFinished(f *fact) bool { return f.in(events.CloseWait, events.Closing, events.LastAck) }

// A write that failed.

func writingShutDown(f *fact) bool {
	return f.afterShutdown() || inSynRecv(f) && f.ShutdownMask&sendShutdown != 0 ||
		f.isEndedAs(events.ShutdownWrite, events.ShutdownBoth, events.ShutdownListen, events.ShutdownSynSent)
}
func connectionReset(f *fact) bool {
	return f.isEndedAs(events.RecvRST, events.ShutdownData, events.AbortDiag) || endedByTimer(f) || f.hasError(epipe)
}
