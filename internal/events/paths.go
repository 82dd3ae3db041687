package events

// The paths of this version. Each has one row in the table below.
const (
	CloseFINActive        Path = "close.fin.active"
	CloseFINPassive       Path = "close.fin.passive"
	CloseFINSynRecv       Path = "close.fin.synrecv"
	CloseRSTUnread        Path = "close.rst.unread"
	CloseRSTLinger0       Path = "close.rst.linger0"
	CloseRSTLinger0Unsent Path = "close.rst.linger0-unsent"
	CloseRSTLinger2       Path = "close.rst.linger2"
	CloseRSTLinger2Late   Path = "close.rst.linger2-late"
	CloseRSTOOM           Path = "close.rst.oom"
	CloseRSTChild         Path = "close.rst.accept-queue-child"
	CloseSilentLinger0    Path = "close.silent.linger0"
	CloseSilentSynSent    Path = "close.silent.synsent"
	CloseSilentRepair     Path = "close.silent.repair"
	CloseSilentClosed     Path = "close.silent.closed"
	CloseSilentNetns      Path = "close.silent.netns"
	CloseAfterShutdown    Path = "close.after-shutdown"
	CloseListen           Path = "close.listen"
	CloseListenMigrated   Path = "close.listen.migrated"
	CloseListenSynRecv    Path = "close.listen.synrecv"
	CloseLingerDone       Path = "close.linger-wait.done"
	CloseLingerTimeout    Path = "close.linger-wait.timeout"
	CloseLingerAborted    Path = "close.linger-wait.aborted"
	CloseLingerSignal     Path = "close.linger-wait.signal"
	ShutdownRead          Path = "shutdown.rd"
	ShutdownWrite         Path = "shutdown.wr"
	ShutdownBoth          Path = "shutdown.rdwr"
	ShutdownNoop          Path = "shutdown.wr.noop"
	ShutdownDeferred      Path = "shutdown.wr.deferred"
	ShutdownNotConnected  Path = "shutdown.notconn"
	ShutdownListen        Path = "shutdown.listen"
	ShutdownSynSent       Path = "shutdown.synsent"
	ShutdownData          Path = "shutdown.rdwr.data"

	ClosedNever        Path = "close.silent.closed.never-connected"
	ClosedTimeWait     Path = "close.silent.closed.timewait"
	ClosedLastAck      Path = "close.silent.closed.lastack"
	ClosedReset        Path = "close.silent.closed.reset"
	ClosedTimeout      Path = "close.silent.closed.timeout"
	ClosedAborted      Path = "close.silent.closed.aborted"
	ClosedICMP         Path = "close.silent.closed.icmp"
	ClosedConnect      Path = "close.silent.closed.connect-failed"
	ClosedDisconnected Path = "close.silent.closed.disconnected"

	DisconnectRST       Path = "disconnect.rst"
	DisconnectRSTUnsent Path = "disconnect.rst.unsent"
	DisconnectSilent    Path = "disconnect.silent"
	DisconnectListen    Path = "disconnect.listen"

	AbortDiag             Path = "abort.diag"
	AbortDiagListen       Path = "abort.diag.listen"
	AbortKeepalive        Path = "abort.keepalive"
	AbortKeepaliveTimeout Path = "abort.keepalive.user-timeout"
	AbortUserTimeout      Path = "abort.user-timeout"
	AbortRetransTimeout   Path = "abort.retrans-timeout"
	AbortSynAckTimeout    Path = "abort.synack-timeout"
	AbortOrphanRetries    Path = "abort.orphan.retries"
	AbortOrphanOOM        Path = "abort.orphan.oom"
	AbortFINWait2         Path = "abort.fin-wait2"
	AbortNetns            Path = "abort.netns"
	AbortAcceptRace       Path = "abort.accept-race"
	AbortMPTCP            Path = "abort.mptcp"

	ReplyNoSocket      Path = "reply.nosocket"
	ReplyTimeWait      Path = "reply.tw-data"
	ReplyAfterClose    Path = "reply.data-after-close"
	ReplyFINWait1OOO   Path = "reply.fin1-ooo"
	ReplyListenACK     Path = "reply.listen-ack"
	ReplyOverflow      Path = "reply.overflow"
	ReplyEmbryonic     Path = "reply.embryonic"
	ReplySynSentBadACK Path = "reply.synsent-badack"
	ReplySynRecvBadACK Path = "reply.synrecv-badack"
	ReplyMPTCP         Path = "reply.mptcp"
	ReplyNetfilter     Path = "reply.netfilter"

	RecvFIN  Path = "recv.fin"
	RecvRST  Path = "recv.rst"
	RecvICMP Path = "recv.icmp"

	AppWriteAfterShutdown Path = "app.write.after-shutdown"
	AppWriteAfterReset    Path = "app.write.after-reset"
	AppCloseShared        Path = "app.close.shared"
	AppWriteNotConnected  Path = "app.write.not-connected"
)

// paths is the table of paths, by family and within it by slug. A new path is one row here, a rule in
// internal/classify, a scenario in internal/lab and a page in internal/explain.
var paths = []PathInfo{
	{Path: CloseAfterShutdown, Title: "close, FIN before", Harmless: Yes},
	{Path: CloseFINActive, Title: "close → FIN", Harmless: Depends},
	{Path: CloseFINPassive, Title: "close → FIN", Harmless: Depends},
	{Path: CloseFINSynRecv, Title: "close → FIN", Harmless: Yes},
	{Path: CloseLingerAborted, Title: "close → FIN, waited", Harmless: No, Abnormal: NotAcknowledged},
	{Path: CloseLingerDone, Title: "close → FIN, waited", Harmless: Yes},
	{Path: CloseLingerSignal, Title: "close → FIN, waited", Harmless: Depends, Abnormal: NotAcknowledged},
	{Path: CloseLingerTimeout, Title: "close → FIN, waited", Harmless: Depends, Abnormal: NotAcknowledged},
	{Path: CloseListen, Title: "close, listener", Harmless: Depends},
	{Path: CloseListenMigrated, Title: "close, listener", Harmless: Yes},
	{
		Path: CloseListenSynRecv, Title: "close, listener", Harmless: Depends, Abnormal: HandshakesDropped,
		Reasons: since("6.10", "NO_SOCKET"), // of the RST that answers the handshake's ACK, a reply.nosocket of its own
	},
	{
		Path: CloseRSTChild, Title: "close → RST", Harmless: No,
		Counters: []Move{outRsts, estabResetsOfChild}, Reasons: since("6.12", "TCP_STATE"),
	},
	{
		Path: CloseRSTLinger0, Title: "close → RST", Harmless: Depends,
		Counters: []Move{outRsts, estabResets, onData}, Reasons: since("6.12", "TCP_STATE"),
	},
	{
		Path: CloseRSTLinger0Unsent, Title: "close → RST", Harmless: No,
		Counters: []Move{outRsts, onData}, Reasons: since("6.12", "TCP_DISCONNECT_WITH_DATA"),
	},
	{
		Path: CloseRSTLinger2, Title: "close → RST", Harmless: Depends,
		Counters: []Move{outRsts, onLinger}, Reasons: since("6.12", "TCP_ABORT_ON_LINGER"),
	},
	{
		Path: CloseRSTLinger2Late, Title: "close → FIN, RST", Harmless: Depends,
		Counters: []Move{outRsts, onData}, Reasons: since("6.10", "TCP_ABORT_ON_DATA"),
	},
	{
		Path: CloseRSTOOM, Title: "close → RST", Harmless: No,
		Counters: []Move{outRsts, onMemory}, Reasons: since("6.12", "TCP_ABORT_ON_MEMORY"),
	},
	{
		Path: CloseRSTUnread, Title: "close → RST", Harmless: No,
		Counters: []Move{outRsts, estabResets, onClose}, Reasons: since("6.12", "TCP_ABORT_ON_CLOSE"),
	},
	{Path: CloseSilentClosed, Title: "close, silent", Harmless: Depends},
	{Path: ClosedAborted, Title: "close, silent", Harmless: Depends},
	{Path: ClosedConnect, Title: "close, silent", Harmless: Depends},
	{Path: ClosedDisconnected, Title: "close, silent", Harmless: Yes},
	{Path: ClosedICMP, Title: "close, silent", Harmless: Depends},
	{Path: ClosedLastAck, Title: "close, silent", Harmless: Depends},
	{Path: ClosedNever, Title: "close, silent", Harmless: Yes},
	{Path: ClosedReset, Title: "close, silent", Harmless: Depends},
	{Path: ClosedTimeout, Title: "close, silent", Harmless: Depends},
	{Path: ClosedTimeWait, Title: "close, silent", Harmless: Depends},
	{Path: CloseSilentLinger0, Title: "close, silent", Harmless: Depends, Silent: true, Counters: []Move{onData}},
	{Path: CloseSilentNetns, Title: "close, silent", Harmless: Yes, Silent: true, Counters: []Move{estabResets}},
	{Path: CloseSilentRepair, Title: "close, silent", Harmless: Depends, Silent: true, Counters: []Move{estabResets}},
	{Path: CloseSilentSynSent, Title: "close, silent", Harmless: Depends, Silent: true, Counters: []Move{onDataIfLinger0}},

	{Path: ShutdownListen, Title: "shutdown, listener", Harmless: Depends},
	{Path: ShutdownNotConnected, Title: "shutdown, refused", Harmless: Depends},
	{Path: ShutdownRead, Title: "shutdown, silent", Harmless: Depends},
	{Path: ShutdownBoth, Title: "shutdown → FIN", Harmless: Depends},
	{
		Path: ShutdownData, Title: "shutdown → RST", Harmless: No,
		Counters: []Move{outRsts, onData}, Reasons: since("6.10", "TCP_ABORT_ON_DATA"),
	},
	{Path: ShutdownSynSent, Title: "shutdown, silent", Harmless: Yes},
	{Path: ShutdownWrite, Title: "shutdown → FIN", Harmless: Yes},
	{Path: ShutdownDeferred, Title: "shutdown, later", Harmless: Yes},
	{Path: ShutdownNoop, Title: "shutdown, no-op", Harmless: Yes},

	{Path: DisconnectListen, Title: "disconnect, listener", Harmless: Depends},
	{
		Path: DisconnectRST, Title: "disconnect → RST", Harmless: Depends,
		Counters: []Move{outRsts, estabResets}, Reasons: since("6.12", "TCP_STATE"),
	},
	{
		Path: DisconnectRSTUnsent, Title: "disconnect → RST", Harmless: No,
		Counters: []Move{outRsts}, Reasons: since("6.12", "TCP_DISCONNECT_WITH_DATA"),
	},
	{Path: DisconnectSilent, Title: "disconnect, silent", Harmless: Yes, Silent: true, Counters: []Move{estabResets}},

	{
		Path: AbortAcceptRace, Title: "listener gone → RST", Harmless: No, Abnormal: Aborted,
		Counters: []Move{outRsts}, Reasons: since("6.12", "TCP_STATE"),
	},
	{
		Path: AbortDiag, Title: "killed, silent", Harmless: Depends, Abnormal: Aborted,
		Counters: []Move{outRstsIfSent, estabResets}, Reasons: since("6.12", "TCP_STATE"),
	},
	{Path: AbortDiagListen, Title: "killed, listener", Harmless: Depends, Abnormal: Aborted},
	{
		Path: AbortFINWait2, Title: "timer → RST", Harmless: Depends, Abnormal: Aborted,
		Counters: []Move{outRsts}, Reasons: since("6.12", "TCP_STATE"),
	},
	{
		Path: AbortKeepalive, Title: "timer → RST", Harmless: Depends, Abnormal: Aborted,
		Counters: []Move{outRsts, estabResets, onTimeout}, Reasons: since("6.12", "TCP_KEEPALIVE_TIMEOUT"),
	},
	{
		Path: AbortKeepaliveTimeout, Title: "timer → RST", Harmless: Depends, Abnormal: Aborted,
		Counters: []Move{outRsts, estabResets, onTimeout}, Reasons: since("6.12", "TCP_KEEPALIVE_TIMEOUT"),
	},
	{
		Path: AbortMPTCP, Title: "MPTCP → RST", Harmless: Depends, Abnormal: Aborted,
		Counters: []Move{outRsts, estabResets}, Reasons: since("6.12", "TCP_ABORT_ON_CLOSE"),
	},
	{Path: AbortNetns, Title: "namespace gone", Harmless: Yes, Abnormal: Aborted, Counters: []Move{estabResets}},
	{
		Path: AbortOrphanOOM, Title: "timer → RST", Harmless: No, Abnormal: Aborted,
		Counters: []Move{outRstsIfSent, onMemory}, Reasons: since("6.12", "TCP_ABORT_ON_MEMORY"),
	},
	{Path: AbortOrphanRetries, Title: "timer, silent", Harmless: No, Abnormal: Aborted, Counters: []Move{onTimeout}},
	{
		Path: AbortRetransTimeout, Title: "timer, silent", Harmless: No, Abnormal: Aborted,
		Counters: []Move{estabResets, onTimeout},
	},
	{
		Path: AbortSynAckTimeout, Title: "timer, silent", Harmless: Depends, Abnormal: Aborted,
		Counters: []Move{onTimeout},
	},
	{
		Path: AbortUserTimeout, Title: "timer, silent", Harmless: No, Abnormal: Aborted,
		Counters: []Move{estabResets, onTimeout},
	},

	{
		Path: ReplyAfterClose, Title: "RST in reply", Harmless: No,
		Counters: []Move{outRsts, onData}, Reasons: since("6.10", "TCP_ABORT_ON_DATA"),
	},
	{
		Path: ReplyEmbryonic, Title: "RST in reply", Harmless: Yes, Abnormal: Never,
		Counters: []Move{outRsts}, Reasons: since("6.10", "INVALID_SYN"),
	},
	{
		Path: ReplyFINWait1OOO, Title: "RST in reply", Harmless: No,
		Counters: []Move{outRsts, onData}, Reasons: since("6.10", "TCP_ABORT_ON_DATA"),
	},
	{
		Path: ReplyListenACK, Title: "RST in reply", Harmless: Depends,
		Counters: []Move{outRsts}, Reasons: since("6.10", "TCP_FLAGS"),
	},
	{
		Path: ReplyMPTCP, Title: "RST in reply", Harmless: Depends,
		Counters: []Move{outRsts}, Reasons: since("6.10", "MPTCP_RST_EUNSPEC", "MPTCP_RST_EMPTCP", "MPTCP_RST_EPROHIBIT"),
	},
	// netfilter sends it, not TCP: no counter of TCP moves, and it has no reason.
	{Path: ReplyNetfilter, Title: "RST by netfilter", Harmless: Depends},
	{
		Path: ReplyNoSocket, Title: "RST in reply", Harmless: Depends,
		Counters: []Move{outRsts}, Reasons: since("6.10", "NO_SOCKET"),
	},
	{
		Path: ReplyOverflow, Title: "RST in reply", Harmless: No,
		Counters: []Move{outRsts}, Reasons: since("6.10", "INVALID_SYN"),
	},
	{
		Path: ReplySynRecvBadACK, Title: "RST in reply", Harmless: Yes, Abnormal: Never,
		Counters: []Move{outRsts}, Reasons: since("6.10", "TCP_TOO_OLD_ACK", "TCP_OLD_ACK", "TCP_ACK_UNSENT_DATA"),
	},
	{
		Path: ReplySynSentBadACK, Title: "RST in reply", Harmless: Yes, Abnormal: Never,
		Counters: []Move{outRsts}, Reasons: since("6.10", "TCP_INVALID_ACK_SEQUENCE", "TCP_RFC7323_PAWS"),
	},
	{
		Path: ReplyTimeWait, Title: "RST in reply", Harmless: No,
		Counters: []Move{outRsts}, Reasons: since("6.10", "TCP_TIMEWAIT_SOCKET"),
	},

	{Path: RecvFIN, Title: "FIN received", Harmless: Yes},
	{Path: RecvICMP, Title: "ICMP error", Harmless: Depends, Abnormal: Terminated},
	{Path: RecvRST, Title: "RST received", Harmless: Depends, Abnormal: Terminated, Counters: []Move{estabResets}},

	{Path: AppCloseShared, Title: "close, shared", Harmless: Depends},
	{Path: AppWriteAfterReset, Title: "EPIPE", Harmless: No, Abnormal: CallFailed},
	{Path: AppWriteAfterShutdown, Title: "EPIPE", Harmless: No, Abnormal: CallFailed},
	{Path: AppWriteNotConnected, Title: "EPIPE", Harmless: No, Abnormal: CallFailed},
}
