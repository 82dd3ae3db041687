// Package events has the types that all packages of closetrace share: the [Event] that the kernel side reported, the
// [Ending] concluded from it, and the table of paths ([Paths]) that an ending can take.
//
// It imports the standard library only and builds on every system, because live tracing and replay both use it.
package events

import (
	"cmp"
	"net/netip"
	"strconv"
)

// Kind is the kind of an [Event]. The numbers are those of enum event_kind in bpf/event.h, the names those of the
// record file.
type Kind uint8

const (
	// KindClose is one call of tcp_close, from its entry to the return of
	// __tcp_close: the calls made inside it are joined into it.
	KindClose Kind = 1 + iota
	// KindShutdown is one call of inet_shutdown on a TCP socket.
	KindShutdown
	// KindFIN is a tcp_send_fin outside of any close or shutdown.
	KindFIN
	// KindReset is a tcp_send_active_reset outside of any close or shutdown
	// of the same socket.
	KindReset
	// KindReply is a tcp_v4_send_reset or tcp_v6_send_reset: a RST in answer to
	// a segment. Before is the state of the socket it was for, 0 if none.
	KindReply
	// KindWaitOver is the end of the wait of a close blocked by SO_LINGER (tracepoint mode only, where the return of
	// the call is not seen).
	KindWaitOver
	// KindDisconnect is one call of tcp_disconnect outside of any close or shutdown: connect(AF_UNSPEC).
	KindDisconnect
	// KindAbort is one call of tcp_abort: SOCK_DESTROY, for example ss -K.
	KindAbort
	// KindDone is a tcp_done by a segment or a timer, except after both FINs.
	KindDone
	// KindPeerFIN is a tcp_fin: a FIN was received.
	KindPeerFIN
	// KindEPIPE is a write that failed with EPIPE, in sk_stream_error.
	KindEPIPE
	// KindShared is a descriptor that was closed while the socket's file had
	// other references (filp_flush, filp_close before Linux 6.6, sys_enter of
	// close(2) in tracepoint mode): no tcp_close follows.
	KindShared
	// KindReject is a nf_send_reset or nf_send_reset6: a rule of netfilter rejected a segment, and netfilter sends a RST
	// in the name of its destination, which is Local. No TCP socket of this host did it.
	KindReject
	// KindLoss is a loss: of what happened in the DurationNS up to MonoNS, LostRecords records and MissedProbes runs of
	// programs are missing, and RepliesLeftOut. The kernel side does not report it, its counters show it.
	KindLoss
)

var kindNames = names[Kind]{
	KindClose: "close", KindShutdown: "shutdown", KindFIN: "fin",
	KindReset: "reset", KindReply: "reply", KindWaitOver: "wait-over",
	KindDisconnect: "disconnect", KindAbort: "abort", KindDone: "done", KindPeerFIN: "peer-fin", KindEPIPE: "epipe",
	KindShared: "shared", KindReject: "reject", KindLoss: "loss",
}

// State is a TCP socket state as the kernel numbers it in
// include/net/tcp_states.h; the numbers are part of the user-space ABI.
type State uint8

// The TCP states.
const (
	StateUnknown State = iota
	Established
	SynSent
	SynRecv
	FinWait1
	FinWait2
	TimeWait
	Close
	CloseWait
	LastAck
	Listen
	Closing
	NewSynRecv
	BoundInactive // Linux 6.8
)

var stateNames = names[State]{
	Established: "ESTABLISHED", SynSent: "SYN_SENT", SynRecv: "SYN_RECV",
	FinWait1: "FIN_WAIT1", FinWait2: "FIN_WAIT2", TimeWait: "TIME_WAIT",
	Close: "CLOSE", CloseWait: "CLOSE_WAIT", LastAck: "LAST_ACK",
	Listen: "LISTEN", Closing: "CLOSING", NewSynRecv: "NEW_SYN_RECV",
	BoundInactive: "BOUND_INACTIVE",
}

// Stage is how far a connection has come at an end. It never goes back.
type Stage int

// The stages, in their order.
const (
	StageUnknown Stage = iota
	StageOpen          // this end has neither sent nor received a FIN
	StagePeerFIN       // it has received one
	StageFIN           // it has sent one
	StageOver          // it is closed, or remembered in TIME_WAIT
)

// Stage returns the stage of a state.
func (s State) Stage() Stage {
	switch s {
	case SynSent, SynRecv, NewSynRecv, Established:
		return StageOpen
	case CloseWait:
		return StagePeerFIN
	case FinWait1, FinWait2, LastAck, Closing:
		return StageFIN
	case TimeWait, Close:
		return StageOver
	}
	return StageUnknown
}

// Flags are yes-or-no facts about a socket and a call. The bits are those of
// enum event_flag in bpf/event.h.
type Flags uint32

const (
	// SentFIN: tcp_send_fin ran, or a state change proves that it did.
	SentFIN Flags = 1 << iota
	// SentRST: tcp_send_active_reset or tcp_v?_send_reset ran.
	SentRST
	// Disconnected: tcp_disconnect ran inside the call.
	Disconnected
	// LingerOn: SO_LINGER is set (sk_flags bit SOCK_LINGER).
	LingerOn
	// Repair: TCP_REPAIR is on.
	Repair
	// PeerFIN: a FIN was received since the last disconnect (SOCK_DONE).
	PeerFIN
	// Orphan: the socket has no file (SOCK_DEAD).
	Orphan
	// KeepAlive: SO_KEEPALIVE is set (SOCK_KEEPOPEN).
	KeepAlive
	// MPTCP: the socket is an MPTCP subflow.
	MPTCP
	// KernelSocket: the kernel created the socket for itself (sk_kern_sock).
	KernelSocket
	// ULP: an upper layer protocol, such as kTLS, is attached to the socket.
	ULP
	// NetnsGone: the network namespace is being destroyed.
	NetnsGone
	// TaskContext: the task made the call and held the socket lock. Without it, softirq ran and interrupted the task.
	TaskContext
	// FileClosing: the last reference to the socket's file was released.
	FileClosing
	// CompatSyscall: the task made a 32-bit system call.
	CompatSyscall
	// InReportedCall: the event belongs to a close by the same task on the
	// same socket that has been reported already.
	InReportedCall
	// UnderLock: the evidence was read with the socket lock held. Without it,
	// a segment may have arrived between the reading and the decision.
	UnderLock
	// ReachedTCP: a shutdown(2) called tcp_shutdown.
	ReachedTCP
	// ReturnUnseen: the event was made from state changes alone; the return
	// of the call, and what happened right before it, was not seen.
	ReturnUnseen
	// SCMRightsDropped: the last descriptor was in a message (SCM_RIGHTS) that was discarded.
	SCMRightsDropped
	// FastOpenChild: a TCP Fast Open child whose SYN-ACK is not acknowledged yet
	// (tcp_sock.fastopen_rsk).
	FastOpenChild
	// OOMVictim: the OOM killer killed the task (signal_struct.oom_mm).
	OOMVictim
	// EndedInCall: a segment ended the socket during a close or shutdown by the
	// task, while it processed its backlog.
	EndedInCall
	// Accepted: a listener made the socket. Connected: none did. Neither: unknown.
	Accepted
	Connected
	// WindowOpen: the peer's window has room for more than was sent; read when a RST or
	// the end of a socket is reported.
	WindowOpen
	// MayMigrate: handshakes of this listener may move to another one of its SO_REUSEPORT group when it is closed
	// (tcp_migrate_req, or a BPF program).
	MayMigrate
)

var flagNames = []string{
	"fin", "rst", "disconnect", "linger", "repair", "peer-fin", "orphan", "keepalive",
	"mptcp", "kernel-socket", "ulp", "netns-gone", "task-context", "file-closing",
	"compat-syscall", "in-reported-call", "under-lock", "reached-tcp", "return-unseen", "scm-rights-dropped",
	"fastopen-child", "oom-victim", "ended-in-call", "accepted", "connected", "window-open",
	"may-migrate",
}

// Has reports whether all of f are set.
func (fs Flags) Has(f Flags) bool { return fs&f == f }

// Task is the process and thread in whose context something ran.
type Task struct {
	PID  uint32 `json:"pid"` // as in the initial pid namespace; thread group
	TID  uint32 `json:"tid"`
	UID  uint32 `json:"uid"`
	Comm string `json:"comm"` // of the thread; at most 15 arbitrary bytes: sinks escape them
	// Process is the name of the thread group's leader or, of a close by execve(2), of the program that called it, if it
	// differs.
	Process string `json:"process,omitempty"`
}

// Name returns the name of the process: of the thread group's leader. It is "-" if the process has set an empty one, by
// prctl(PR_SET_NAME): one without a name would be the kernel in a list.
func (t *Task) Name() string { return cmp.Or(t.Process, t.Comm, "-") }

// Event is one report of the kernel side, with names looked up. A record file consists of events, and classification
// uses nothing else.
type Event struct {
	Kind   Kind   `json:"kind"`
	MonoNS uint64 `json:"mono_ns"` // CLOCK_MONOTONIC, when the call began
	// DurationNS is the time from entry to return, 0 if the return is not seen.
	DurationNS uint64 `json:"duration_ns,omitempty"`
	Flags      Flags  `json:"flags"`

	Sock     uint64         `json:"sock"`               // address of struct sock: identifies the socket while it exists
	Listener uint64         `json:"listener,omitempty"` // the listener that is being closed, if this socket is in its accept queue
	Local    netip.AddrPort `json:"local"`
	Remote   netip.AddrPort `json:"remote"`
	Netns    uint32         `json:"netns"`  // inode of the network namespace
	CgroupID uint64         `json:"cgroup"` // cgroup v2 id of the task
	// Cgroup is its path, as in /proc/PID/cgroup, if it was found.
	Cgroup string `json:"cgroup_path,omitempty"`
	// SocketCgroupID is the id of the cgroup of the task that created the socket or, of an accepted one, its listener;
	// 0 if unknown.
	SocketCgroupID uint64 `json:"socket_cgroup,omitempty"`
	SocketCgroup   string `json:"socket_cgroup_path,omitempty"` // its path, if it is another
	// ContainerNames are the names of the container of the socket's cgroup, if requested.
	ContainerNames *ContainerNames `json:"container_names,omitempty"`

	Task      Task   `json:"task"`
	TaskFlags uint32 `json:"task_flags"`          // PF_* of include/linux/sched.h
	ExitCode  int32  `json:"exit_code,omitempty"` // task_struct.exit_code: low 7 bits a signal
	Syscall   string `json:"syscall,omitempty"`   // the system call the task is in, by name

	Before   State `json:"before"`              // state when the call began
	After    State `json:"after"`               // state after the decision
	AtReturn State `json:"at_return,omitempty"` // state when the call returned, if that is seen
	AtRST    State `json:"at_rst,omitempty"`    // last state before the RST was decided, if known

	How          uint8  `json:"how,omitempty"`           // shutdown(2): 1 read, 2 write, 3 both (the kernel's SHUTDOWN_MASK); EPIPE: 1 with SIGPIPE
	Result       int32  `json:"result,omitempty"`        // shutdown(2): 0 or a negative errno
	SockErr      int32  `json:"sk_err,omitempty"`        // pending socket error, a positive errno
	ShutdownMask uint8  `json:"shutdown_mask,omitempty"` // sk_shutdown before the call: 1 read, 2 write
	KernelReason string `json:"kernel_reason,omitempty"` // enum sk_rst_reason by name; Linux 6.10

	UnreadBytes   uint32 `json:"unread,omitempty"`         // payload in the receive queue
	UnsentBytes   uint32 `json:"unsent,omitempty"`         // write_seq - snd_nxt
	UnackedBytes  uint32 `json:"unacked,omitempty"`        // snd_nxt - snd_una
	BytesSent     uint64 `json:"bytes_sent,omitempty"`     // payload, retransmissions included
	BytesReceived uint64 `json:"bytes_received,omitempty"` // payload
	// OutputLeft is write_seq - snd_una after the call: bytes that were queued or in flight, plus one for the FIN.
	// UnsentLeft is write_seq - snd_nxt: if it is not 0 after a FIN, the FIN has not left this host. With ReturnUnseen
	// it is computed from the windows before the FIN.
	OutputLeft uint32 `json:"output_left,omitempty"`
	UnsentLeft uint32 `json:"unsent_left,omitempty"`

	LingerJiffies  uint64 `json:"linger_jiffies,omitempty"`  // sk_lingertime; meaningless without LingerOn
	TimeoutJiffies uint64 `json:"timeout_jiffies,omitempty"` // how long tcp_close may wait
	WaitedJiffies  uint64 `json:"waited_jiffies,omitempty"`  // how long the call took
	Linger2Jiffies int32  `json:"linger2_jiffies,omitempty"` // TCP_LINGER2; negative: no FIN_WAIT2
	UserTimeoutMS  uint32 `json:"user_timeout_ms,omitempty"` // TCP_USER_TIMEOUT
	Probes         uint8  `json:"probes,omitempty"`          // keepalive or window probes unanswered
	Retransmits    uint8  `json:"retransmits,omitempty"`     // retransmission timeouts in a row

	// FirstSent is snd_una - bytes_acked and FirstReceived rcv_nxt - bytes_received: the initial sequence number of
	// each side or the one after it. They identify a connection. 0 if unknown.
	FirstSent     uint32 `json:"first_sent,omitempty"`
	FirstReceived uint32 `json:"first_received,omitempty"`
	SndNxt        uint32 `json:"snd_nxt,omitempty"` // next sequence number to send

	// Jiffies since data was last received and sent, or since the handshake; 0 if
	// there was none.
	IdleReceivedJiffies uint32 `json:"idle_received_jiffies,omitempty"`
	IdleSentJiffies     uint32 `json:"idle_sent_jiffies,omitempty"`
	// SRTTUS is the smoothed round-trip time, microseconds; 0 if none was measured.
	SRTTUS uint32 `json:"srtt_us,omitempty"`
	// Retransmitted is the number of segments sent again, SYNs included, of the whole connection.
	Retransmitted uint32 `json:"retransmitted,omitempty"`
	// RetransmittingMS is the time since the first transmission of the oldest unacknowledged byte, or of the SYN, in
	// milliseconds; 0 if unknown.
	RetransmittingMS uint32 `json:"retransmitting_ms,omitempty"`
	// ProbingJiffies is the time since the first unanswered window probe; 0 if there was none or the kernel does not
	// have it (before 5.10.10).
	ProbingJiffies uint32 `json:"probing_jiffies,omitempty"`

	// ICMP is an ICMP error in the socket's error queue while connecting that does not end the attempt.
	ICMP *ICMPError `json:"icmp,omitempty"`

	// RST has the headers of the RST that ended the connection, if the kernel side saw them. SegmentSeq, SegmentAck and
	// SegmentFlags are then those of the RST.
	RST *RSTHeaders `json:"rst_headers,omitempty"`

	SegmentSeq   uint32   `json:"segment_seq,omitempty"`   // reply, reject: sequence number of the answered segment
	SegmentAck   uint32   `json:"segment_ack,omitempty"`   // reply, reject: its acknowledgment number; 0 without ACK
	SegmentBytes uint32   `json:"segment,omitempty"`       // reply, reject: its payload
	SegmentFlags uint8    `json:"segment_flags,omitempty"` // reply, reject: its TCP flags
	Inode        uint64   `json:"inode,omitempty"`         // of the socket's file
	SocketUID    uint32   `json:"socket_uid,omitempty"`    // of the user that created the socket
	Owner        *Task    `json:"owner,omitempty"`         // the process that holds the socket, if looked up
	OwnerBy      OwnerBy  `json:"-"`                       // how classification found it; empty: /proc
	OwnerDoubt   bool     `json:"-"`                       // a loss may have made OwnerBy wrong; classification sets it
	Stack        []string `json:"stack,omitempty"`         // kernel functions, innermost first, if requested

	CallStack  *CallStack `json:"call_stack,omitempty"` // of the task's call, if requested
	References uint32     `json:"references,omitempty"` // shared: descriptors and calls in progress that hold the file
	// Searched: /proc was searched after the event for the processes that hold the socket. Owner is one of them,
	// OtherHolders is the number of the others.
	Searched     bool   `json:"searched,omitempty"`
	OtherHolders uint32 `json:"other_holders,omitempty"`

	// OtherRemote is the remote end of the only connection with this local address and port, if a segment without a
	// socket is answered and that connection was looked up. Owner is its owner.
	OtherRemote netip.AddrPort `json:"other_remote,omitzero"`

	// NetfilterHook is where the rule is that rejected the segment: INPUT, FORWARD, OUTPUT or PREROUTING.
	NetfilterHook string `json:"netfilter_hook,omitempty"`
	// OtherEnd is the socket of the other end of a connection that a RST ended, if it was looked up, is on this host
	// and is open.
	OtherEnd *OtherEnd `json:"other_end,omitempty"`

	Signal int32 `json:"signal,omitempty"` // KindWaitOver: the signal that interrupted it
	// PeerFINAgoNS is how long before this event the peer's FIN was received, 0 if unseen. Classification sets it.
	PeerFINAgoNS uint64 `json:"-"`

	Children        uint32 `json:"children,omitempty"`         // listener: sk_ack_backlog before the call
	ChildrenReset   uint32 `json:"children_reset,omitempty"`   // of these, sent a RST
	ChildrenDropped uint32 `json:"children_dropped,omitempty"` // of these, destroyed, with RST or without
	PendingRequests uint32 `json:"pending_requests,omitempty"` // listener: handshakes not finished
	BacklogLimit    uint32 `json:"backlog_limit,omitempty"`    // listener: sk_max_ack_backlog

	LostRecords  uint32 `json:"lost_records,omitempty"`  // KindLoss
	MissedProbes uint32 `json:"missed_probes,omitempty"` // KindLoss
	// RepliesLeftOut is the number of RST replies over the rate limit in the time of a KindLoss. They change no verdict.
	RepliesLeftOut uint32 `json:"replies_left_out,omitempty"`
	// LeftOut is how many of LostRecords were not lost, but left out of the recording by --trigger.
	LeftOut uint32 `json:"left_out,omitempty"`

	// Record is what the kernel side wrote, for a recording: valid until the source is read again. nil if the event was
	// not a record.
	Record []byte `json:"-"`
}

// Field is a field of the record of the kernel side: where its bytes are, least significant first.
type Field struct {
	Name   string `json:"name"`
	Offset int    `json:"offset"`
	Size   int    `json:"size"`
	Signed bool   `json:"signed,omitempty"`
}

// RSTHeaders is what the headers of a RST show of its sender.
type RSTHeaders struct {
	TTL     uint8      `json:"ttl"`             // IPv6: hop limit
	Window  uint16     `json:"window"`          // not scaled
	IPID    uint16     `json:"ip_id,omitempty"` // IPv4
	Options TCPOptions `json:"tcp_options,omitempty"`
}

// TCPOptions is a set of TCP options: bit n is the option of kind n, bit 31 all from 31 on.
type TCPOptions uint32

// tcpOptionNames are the names of options by kind, as tcpdump and RFCs have them.
var tcpOptionNames = map[int]string{
	2: "mss", 3: "wscale", 4: "sack-permitted", 5: "sack", 8: "timestamps", 19: "md5", 29: "ao", 30: "mptcp", 31: "other",
}

// Names returns the names of the options, by kind.
func (o TCPOptions) Names() []string {
	names := []string{}
	for kind := range 32 {
		if o>>kind&1 != 0 {
			names = append(names, cmp.Or(tcpOptionNames[kind], "kind-"+strconv.Itoa(kind)))
		}
	}
	return names
}

// ICMPError is struct sock_extended_err, which applications get by IP_RECVERR.
type ICMPError struct {
	Errno  uint32 `json:"errno"`
	Origin uint8  `json:"origin"` // 2 ICMP, 3 ICMPv6
	Type   uint8  `json:"type"`
	Code   uint8  `json:"code"`
}

// OtherEnd is an open socket whose addresses are those of another one, the other way round.
type OtherEnd struct {
	State State  `json:"state"`
	Netns uint32 `json:"netns"`           // inode of its network namespace
	Owner *Task  `json:"owner,omitempty"` // the process that holds it, if found
}

// CallStack is the user and kernel stack of a call, innermost first.
type CallStack struct {
	User   []string `json:"user,omitempty"`
	Kernel []string `json:"kernel,omitempty"` // functions
	// Unresolved is the number of functions of User that are shown as module and offset, because they were not named.
	Unresolved int `json:"unresolved,omitempty"`
	// Addresses are the return addresses from which User is resolved, in the address space whose stack begins at
	// StartStack.
	Addresses  []uint64 `json:"-"`
	StartStack uint64   `json:"-"`
}

// SocketCgroupPath returns the path of the cgroup in which the socket was created, "" if unknown.
func (ev *Event) SocketCgroupPath() string {
	if ev.SocketCgroupID == ev.CgroupID {
		return ev.Cgroup
	}
	return ev.SocketCgroup
}

// Header says what produced a stream of events, and which hooks were missing.
type Header struct {
	Schema  int      `json:"schema_version"`
	Kernel  string   `json:"kernel"` // release, as uname -r
	Attach  string   `json:"attach"` // fentry, kprobe or tracepoint
	Hooks   []string `json:"hooks"`
	Missing []string `json:"missing,omitempty"` // optional hooks that could not be attached
	HZ      uint64   `json:"hz"`                // jiffies per second
	// WallOffsetNS added to a MonoNS gives nanoseconds since the Unix epoch.
	WallOffsetNS int64 `json:"wall_offset_ns"`
	// Host is the host's name, BootID the id of its boot: together they say which clock MonoNS is of. Empty: not known.
	Host   string `json:"host,omitempty"`
	BootID string `json:"boot_id,omitempty"`
	// AuditNetns is the network namespace whose counters were compared with the endings, 0 if none.
	AuditNetns uint32 `json:"audit_netns,omitempty"`
	// CloseWaitNS is how long a received FIN may stay unanswered until it is reported, in nanoseconds; 0 reports each
	// FIN immediately.
	CloseWaitNS uint64 `json:"close_wait_ns,omitempty"`
	// Run identifies the run that made this and other files of a recording, in the order of Part; empty: one file.
	Run  string `json:"run_id,omitempty"`
	Part uint32 `json:"part,omitempty"`
	// Record is the layout of [Event.Record]; nil if events have none.
	Record []Field `json:"record,omitempty"`
}

// AttachTracepoint is [Header.Attach] of the mode that sees least.
const AttachTracepoint = "tracepoint"

// ByTracepoint reports whether the hooks were tracepoints only.
func (h *Header) ByTracepoint() bool { return h.Attach == AttachTracepoint }
