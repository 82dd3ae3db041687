// Package events is the vocabulary of closetrace: the [Event], a fact that the
// kernel side reported, and the [Ending], the conclusion drawn from it.
//
// It knows neither BPF nor /proc nor terminals, imports the standard library
// only and builds on every system, because both sides of the seam between the
// live and the replayable half of closetrace speak it.
package events

import "net/netip"

// Kind tells which fact an [Event] states. The numbers are those of enum
// event_kind in bpf/event.h; the names are those of the record file.
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
	// KindWaitOver tells that a close blocked by SO_LINGER stopped waiting
	// (tracepoint mode only, where the return of the call cannot be seen).
	KindWaitOver
	// KindDisconnect is one call of tcp_disconnect that is no part of a close
	// or a shutdown: connect(AF_UNSPEC).
	KindDisconnect
	// KindAbort is one call of tcp_abort: SOCK_DESTROY, as by ss -K.
	KindAbort
	// KindDone is a tcp_done by a segment or a timer that is not the orderly
	// end after both FINs.
	KindDone
	// KindPeerFIN is a tcp_fin: a FIN was received.
	KindPeerFIN
	// KindEPIPE is a write that failed with EPIPE, in sk_stream_error.
	KindEPIPE
	// KindShared is a descriptor that was closed while the socket's file had
	// other references (filp_flush, filp_close before Linux 6.6, sys_enter of
	// close(2) in tracepoint mode): no tcp_close comes of it.
	KindShared
)

var kindNames = names[Kind]{
	KindClose: "close", KindShutdown: "shutdown", KindFIN: "fin",
	KindReset: "reset", KindReply: "reply", KindWaitOver: "wait-over",
	KindDisconnect: "disconnect", KindAbort: "abort", KindDone: "done", KindPeerFIN: "peer-fin", KindEPIPE: "epipe",
	KindShared: "shared",
}

// State is a TCP socket state as the kernel numbers it in
// include/net/tcp_states.h; the numbers are part of the user-space ABI.
type State uint8

// The states that decisions are made on.
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
	// Orphan: the socket has no file any more (SOCK_DEAD).
	Orphan
	// KeepAlive: SO_KEEPALIVE is set (SOCK_KEEPOPEN).
	KeepAlive
	// MPTCP: the socket is an MPTCP subflow.
	MPTCP
	// KernelSocket: made by the kernel for itself (sk_kern_sock).
	KernelSocket
	// ULP: an upper layer protocol, such as kTLS, sits on the socket.
	ULP
	// NetnsGone: the network namespace is being torn down.
	NetnsGone
	// TaskContext: a task held the socket lock, so the call is its own; if
	// missing, softirq ran and the current task is whoever was interrupted.
	TaskContext
	// FileClosing: the last reference to the socket's file is gone.
	FileClosing
	// CompatSyscall: the task made a 32-bit system call.
	CompatSyscall
	// InReportedCall: the event belongs to a close by the same task on the
	// same socket that has been reported already.
	InReportedCall
	// UnderLock: the evidence was read with the socket lock held. Without it,
	// a segment may have arrived between the reading and the decision.
	UnderLock
	// ReachedTCP: a shutdown(2) went down to tcp_shutdown.
	ReachedTCP
	// ReturnUnseen: the event was made from state changes alone; the return
	// of the call, and what happened right before it, was not seen.
	ReturnUnseen
	// SCMRightsDropped: the last descriptor was in a message (SCM_RIGHTS) that
	// went away.
	SCMRightsDropped
)

var flagNames = []string{
	"fin", "rst", "disconnect", "linger", "repair", "peer-fin", "orphan", "keepalive",
	"mptcp", "kernel-socket", "ulp", "netns-gone", "task-context", "file-closing",
	"compat-syscall", "in-reported-call", "under-lock", "reached-tcp", "return-unseen", "scm-rights-dropped",
}

// Has tells whether all of f are set.
func (fs Flags) Has(f Flags) bool { return fs&f == f }

// Task is the process and thread in whose context something ran.
type Task struct {
	PID  uint32 `json:"pid"` // as in the initial pid namespace; thread group
	TID  uint32 `json:"tid"`
	UID  uint32 `json:"uid"`
	Comm string `json:"comm"` // at most 15 bytes, any bytes: sinks escape it
}

// Event is one fact from the kernel side, after names are looked up. It is
// what a record file holds, and all that classification may use.
type Event struct {
	Kind   Kind   `json:"kind"`
	MonoNS uint64 `json:"mono_ns"` // CLOCK_MONOTONIC, when the call began
	// DurationNS is the time from entry to return, 0 where no return is seen.
	DurationNS uint64 `json:"duration_ns,omitempty"`
	Flags      Flags  `json:"flags"`

	Sock     uint64         `json:"sock"`               // address of struct sock: an identity while it lives
	Listener uint64         `json:"listener,omitempty"` // the listener whose queue this child is in, while that is being closed
	Local    netip.AddrPort `json:"local"`
	Remote   netip.AddrPort `json:"remote"`
	Netns    uint32         `json:"netns"`  // inode of the network namespace
	CgroupID uint64         `json:"cgroup"` // cgroup v2 id of the task
	// Cgroup is its path, as in /proc/PID/cgroup, where that was found.
	Cgroup string `json:"cgroup_path,omitempty"`
	// SocketCgroupID is the id of the cgroup in which the task was that made the
	// socket or, of an accepted one, its listener; 0 if unknown.
	SocketCgroupID uint64 `json:"socket_cgroup,omitempty"`
	SocketCgroup   string `json:"socket_cgroup_path,omitempty"` // its path, where it is another
	// ContainerNames are those of the container that the socket's cgroup is of, where
	// they were asked for.
	ContainerNames *ContainerNames `json:"container_names,omitempty"`

	Task      Task   `json:"task"`
	TaskFlags uint32 `json:"task_flags"`          // PF_* of include/linux/sched.h
	ExitCode  int32  `json:"exit_code,omitempty"` // task_struct.exit_code: low 7 bits a signal
	Syscall   string `json:"syscall,omitempty"`   // the system call the task is in, by name

	Before   State `json:"before"`              // state when the call began
	After    State `json:"after"`               // state that the decision led to
	AtReturn State `json:"at_return,omitempty"` // state when the call returned, where that is seen
	AtRST    State `json:"at_rst,omitempty"`    // last state before the RST was decided, where known

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
	// OutputLeft is write_seq - snd_una after the call: what was queued or in
	// flight then, the FIN counted as one. UnsentLeft is write_seq - snd_nxt:
	// if not 0 after a FIN, that FIN has not left this host yet. With
	// ReturnUnseen it is foretold from the windows before the FIN.
	OutputLeft uint32 `json:"output_left,omitempty"`
	UnsentLeft uint32 `json:"unsent_left,omitempty"`

	LingerJiffies  uint64 `json:"linger_jiffies,omitempty"`  // sk_lingertime; meaningless without LingerOn
	TimeoutJiffies uint64 `json:"timeout_jiffies,omitempty"` // how long tcp_close may wait
	WaitedJiffies  uint64 `json:"waited_jiffies,omitempty"`  // how long the call took
	Linger2Jiffies int32  `json:"linger2_jiffies,omitempty"` // TCP_LINGER2; negative: no FIN_WAIT2
	UserTimeoutMS  uint32 `json:"user_timeout_ms,omitempty"` // TCP_USER_TIMEOUT
	Probes         uint8  `json:"probes,omitempty"`          // keepalive or window probes unanswered
	Retransmits    uint8  `json:"retransmits,omitempty"`     // retransmission timeouts in a row

	SegmentBytes uint32   `json:"segment,omitempty"`       // reply: payload of the segment that is answered
	SegmentFlags uint8    `json:"segment_flags,omitempty"` // reply: its TCP flags
	Inode        uint64   `json:"inode,omitempty"`         // of the socket's file
	SocketUID    uint32   `json:"socket_uid,omitempty"`    // who made the socket
	Owner        *Task    `json:"owner,omitempty"`         // the process that holds the socket, where looked up
	Stack        []string `json:"stack,omitempty"`         // kernel functions, innermost first, where taken

	CallStack  *CallStack `json:"call_stack,omitempty"` // of the task's call, where asked for
	References uint32     `json:"references,omitempty"` // shared: descriptors and calls in progress that still hold the file
	// Searched: /proc was searched after the event for who holds the socket.
	// Owner is one of them, OtherHolders how many more processes do.
	Searched     bool   `json:"searched,omitempty"`
	OtherHolders uint32 `json:"other_holders,omitempty"`

	Signal int32 `json:"signal,omitempty"` // KindWaitOver: the signal that interrupted it
	// PeerFINAgoNS is how long before this answer to it the peer's FIN had come, 0
	// if unseen. Classification joins it in.
	PeerFINAgoNS uint64 `json:"-"`

	Children        uint32 `json:"children,omitempty"`         // listener: sk_ack_backlog before the call
	ChildrenReset   uint32 `json:"children_reset,omitempty"`   // of these, sent a RST
	ChildrenDropped uint32 `json:"children_dropped,omitempty"` // of these, torn down, RST or not
	PendingRequests uint32 `json:"pending_requests,omitempty"` // listener: handshakes not finished
}

// CallStack is where a task's call came from, innermost first.
type CallStack struct {
	User   []string `json:"user,omitempty"`
	Kernel []string `json:"kernel,omitempty"` // functions
	// What User is found from: return addresses in the address space that begins
	// its stack at StartStack.
	Addresses  []uint64 `json:"-"`
	StartStack uint64   `json:"-"`
}

// SocketCgroupPath is the path of the cgroup that the socket was made in, "" if
// unknown.
func (ev *Event) SocketCgroupPath() string {
	if ev.SocketCgroupID == ev.CgroupID {
		return ev.Cgroup
	}
	return ev.SocketCgroup
}

// Header says what produced a stream of events and what could not be seen.
type Header struct {
	Schema  int      `json:"schema_version"`
	Kernel  string   `json:"kernel"` // release, as uname -r
	Attach  string   `json:"attach"` // fentry, kprobe or tracepoint
	Hooks   []string `json:"hooks"`
	Missing []string `json:"missing,omitempty"` // optional hooks that could not be attached
	HZ      uint64   `json:"hz"`                // jiffies per second
	// WallOffsetNS added to a MonoNS gives nanoseconds since the Unix epoch.
	WallOffsetNS int64 `json:"wall_offset_ns"`
	// AuditNetns is the network namespace whose counters the run was compared
	// with, where it was.
	AuditNetns uint32 `json:"audit_netns,omitempty"`
	// CloseWaitNS is how long a FIN received may stay unanswered until that is an
	// ending to tell of; 0: each is, at once. Nanoseconds.
	CloseWaitNS uint64 `json:"close_wait_ns,omitempty"`
}
