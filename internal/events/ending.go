package events

import (
	"net/netip"
	"strings"
	"time"
)

// SchemaVersion is the version of the JSON forms of [Event] and [Ending]. It
// grows when a field changes its meaning or goes away, not when one is added.
const SchemaVersion = 1

// Path is the stable slug of what the kernel did, the same in JSON, filters,
// scenario files and documents.
type Path string

// Ending is a conclusion: how a connection, or one direction of it, ended,
// why, by what evidence and by whose call.
type Ending struct {
	Time   time.Time
	MonoNS uint64
	Path   Path
	Title  string // the path in a few words, for the PATH column
	Cause  string // why, numbers first
	// Doubt says what was not observed; empty means that the verdict rests on
	// observation alone ("confidence":"observed").
	Doubt string

	Trigger Trigger
	Signal  int    // with TriggerSignal, or a wait that a signal interrupted
	Syscall string // with a trigger that is a system call: which
	// Actor is the task whose call it was; nil where the kernel acted by itself
	// (softirq), which is nobody's call.
	Actor *Task
	// Owner is the process that holds the socket, where it is not the actor
	// and could be found.
	Owner *Task
	// Earlier is what this side had last done with the connection, Peer what
	// the other end did to bring this about, if it is on this host.
	Earlier, Peer *Past
	// Harmless: a RST after both sides had sent all they wanted to.
	Harmless bool

	Local, Remote netip.AddrPort
	Netns         uint32
	CgroupID      uint64 // of the actor
	// Cgroup is the path of the cgroup that the socket was made in or, of an
	// accepted one, its listener; where that is not known, of the actor's.
	Cgroup      string
	ActorCgroup string // that of the actor, where it is another
	// ContainerNames are those of the container that Cgroup is of, where asked for.
	ContainerNames *ContainerNames
	Before, After  State
	FIN, RST       bool   // whether a FIN was queued, a RST sent
	KernelReason   string // the kernel's own reason for a RST, where it gives one
	Evidence       Evidence
	Stack          *CallStack // of the actor's call, where asked for
	DurationNS     uint64     // how long the call took; 0 where its return is not seen
}

// Past is an earlier ending that explains a later one.
type Past struct {
	Path  Path
	AgoNS uint64 // before the ending that it explains
	Actor *Task
}

// Trigger is what set the call off.
type Trigger string

// The triggers.
const (
	TriggerClose         Trigger = "close"          // close(2), close_range(2)
	TriggerShutdown      Trigger = "shutdown"       // shutdown(2)
	TriggerExit          Trigger = "exit"           // the process ended by itself
	TriggerSignal        Trigger = "signal"         // a signal killed the process
	TriggerExecve        Trigger = "execve"         // close-on-exec
	TriggerDup2          Trigger = "dup2"           // dup2(2) or dup3(2) over the descriptor
	TriggerIOUring       Trigger = "io_uring"       // an io_uring request
	TriggerLastReference Trigger = "last-reference" // another call held the file and was the last to let go
	TriggerConnect       Trigger = "connect"        // connect(2), as connect(AF_UNSPEC)
	TriggerKernel        Trigger = "kernel"         // a kernel thread
	TriggerSegment       Trigger = "segment"        // an incoming segment
	TriggerWrite         Trigger = "write"          // write(2), send(2) and their like
	TriggerTimer         Trigger = "timer"          // a timer of the kernel
	TriggerSCMRights     Trigger = "scm-rights"     // the last descriptor was in a message that went away
	TriggerNetns         Trigger = "netns"          // the network namespace is torn down
	TriggerNetlink       Trigger = "netlink"        // sock_diag, as by ss -K
)

// Evidence is the numbers that prove an [Ending]. Bytes are payload.
type Evidence struct {
	UnreadBytes   uint32
	UnsentBytes   uint32 // never left this host
	UnackedBytes  uint32 // sent, not acknowledged
	BytesSent     uint64
	BytesReceived uint64
	// FINUnsent: the FIN stands behind UnsentBytes or a closed window and has
	// not left this host when the call ended.
	FINUnsent bool

	LingerOn bool
	Linger   time.Duration // with LingerOn
	// Linger2 is TCP_LINGER2: 0 the system's default, negative: a FIN_WAIT2
	// without owner is reset at once.
	Linger2 time.Duration
	Waited  time.Duration // how long close(2) was blocked by SO_LINGER

	SockErr int  // errno pending on the socket before the call
	Errno   int  // what the call returned, a positive errno
	PeerFIN bool // the peer had sent its FIN
	// PeerFINAgo is how long before that FIN had come, where that was seen.
	PeerFINAgo      time.Duration
	Children        uint32 // connections waiting in the listener's accept queue
	ChildrenReset   uint32
	PendingRequests uint32 // handshakes in progress on the listener
	SegmentBytes    uint32 // of the segment that a RST answers
	UserTimeout     time.Duration
	Probes          uint32 // keepalive or window probes unanswered
	Retransmits     uint32 // retransmission timeouts in a row
	References      uint32 // descriptors and calls in progress that still hold the socket
	OtherHolders    uint32 // processes beside the owner that do
	SIGPIPE         bool   // the kernel raised SIGPIPE
	MPTCP           bool   // an MPTCP subflow
}

// Family returns "ipv4" or "ipv6" by what is on the wire: a v4-mapped IPv6
// socket speaks IPv4.
func (e *Ending) Family() string { return family(e.isIPv4()) }

func (e *Ending) isIPv4() bool {
	ip := e.Local.Addr()
	return ip.Is4() || ip.Is4In6()
}

func family(ipv4 bool) string {
	if ipv4 {
		return "ipv4"
	}
	return "ipv6"
}

// Confidence is "observed", or "inferred" where [Ending.Doubt] says why.
func (e *Ending) Confidence() string { return confidence(e.Doubt) }

func confidence(doubt string) string {
	if doubt != "" {
		return "inferred"
	}
	return "observed"
}

// Family of a slug: its part before the first dot, as in close.rst.unread.
func (p Path) Family() string {
	family, _, _ := strings.Cut(string(p), ".")
	return family
}
