package events

import (
	"net/netip"
	"strings"
	"time"
)

// SchemaVersion is the version of the JSON forms of [Event] and [Ending]. It grows when a field changes its meaning or
// is removed, not when one is added.
const SchemaVersion = 1

// Path is the stable slug of what the kernel did, for example close.rst.unread. It is the same in JSON, filters,
// scenario files and documents.
type Path string

// Ending is a conclusion: how a connection, or one direction of it, ended, why, by what evidence, and which process
// caused it.
type Ending struct {
	// Host is the host that the ending is of, in a stream of several; nil: the host of the stream.
	Host   *Host
	Time   time.Time
	MonoNS uint64
	Path   Path
	Title  string // the path in a few words, for the PATH column
	Cause  string // why, numbers first
	// Doubt says what was not observed. Empty means that all of it was ("confidence":"observed").
	Doubt string

	Trigger Trigger
	Signal  int    // with TriggerSignal, or a wait that a signal interrupted
	Syscall string // name of the system call, if the trigger is one
	// Actor is the task that made the call, nil if the kernel acted by itself (a segment or a timer, in softirq).
	Actor *Task
	// Owner is the process that holds the socket, if it is not the actor and was found.
	Owner   *Task
	OwnerBy OwnerBy // how it was found; empty without an owner
	// Earlier is the last ending of this side of the connection. Peer is the ending of the other end that caused this
	// one, if that end is on this host, or on another one of the stream.
	Earlier, Peer *Past
	// Harmless: a RST after both sides had sent everything, or that ended a probe.
	Harmless bool

	Local, Remote netip.AddrPort
	// PeerLocal is the address of the other end on its own host, if its recording has it and it is not Remote: it is
	// translated on the way.
	PeerLocal netip.AddrPort
	// Service is the end of the service: the one that accepted the connection, or got its SYN.
	Service End
	// ConnectionID is the same for all endings of a connection, at both ends; 0 if unknown.
	ConnectionID uint64
	Netns        uint32
	CgroupID     uint64 // of the actor
	// Cgroup is the path of the cgroup in which the socket, or the listener of an accepted one, was created. If that is
	// unknown it is the actor's.
	Cgroup      string
	ActorCgroup string // the actor's, if it is another
	// ContainerNames are the names of the container of Cgroup, if requested.
	ContainerNames *ContainerNames
	Before, After  State
	FIN, RST       bool   // a FIN was queued, a RST was sent
	KernelReason   string // the kernel's own reason for a RST, if it gives one
	Evidence       Evidence
	Stack          *CallStack // of the actor's call, if requested
	DurationNS     uint64     // how long the call took; 0 if its return was not seen
	// RepliesLeftOut is, on a RST in reply, how many others the rate limit left out since the last one, in all.
	RepliesLeftOut uint64
}

// Past is an earlier ending that explains a later one.
type Past struct {
	Path  Path
	AgoNS uint64 // how long before the ending that it explains
	Actor *Task
	Host  *Host // where it was, if not on the host of the ending that it explains
}

// Host is one of several hosts in a stream of endings.
type Host struct {
	Name, BootID string // as in [Header]
	Label        string // what it is called in tables: its name or, if that is unknown or of two boots, another
}

// PeerAddr returns the address of the other end, as that end has it if that is known.
func (e *Ending) PeerAddr() netip.AddrPort {
	if e.PeerLocal.IsValid() {
		return e.PeerLocal
	}
	return e.Remote
}

// OwnerBy is how the owner of a socket was found.
type OwnerBy string

// The ways to find an owner, the surest first.
const (
	OwnerByCall        OwnerBy = "call"         // it was in a call on the socket when that ended
	OwnerByLaterCall   OwnerBy = "later-call"   // it made the next call on the socket, such as close(2)
	OwnerByEarlierCall OwnerBy = "earlier-call" // it had closed the socket, which the kernel kept until now
	OwnerByProc        OwnerBy = "proc"         // it has a descriptor of the socket in /proc
)

// Trigger is what caused an ending.
type Trigger string

// The triggers.
const (
	TriggerClose         Trigger = "close"          // close(2), close_range(2)
	TriggerShutdown      Trigger = "shutdown"       // shutdown(2)
	TriggerExit          Trigger = "exit"           // the process, or a thread with its own descriptors, ended by itself
	TriggerSignal        Trigger = "signal"         // a signal killed the process
	TriggerExecve        Trigger = "execve"         // close-on-exec
	TriggerDup2          Trigger = "dup2"           // dup2(2) or dup3(2) over the descriptor
	TriggerIOUring       Trigger = "io_uring"       // an io_uring request
	TriggerLastReference Trigger = "last-reference" // another call held the file and released it last
	TriggerConnect       Trigger = "connect"        // connect(AF_UNSPEC)
	TriggerKernel        Trigger = "kernel"         // a kernel thread
	TriggerSegment       Trigger = "segment"        // an incoming segment
	TriggerWrite         Trigger = "write"          // write(2), send(2) and similar calls
	TriggerTimer         Trigger = "timer"          // a timer of the kernel
	TriggerSCMRights     Trigger = "scm-rights"     // the last descriptor was in a message that was discarded
	TriggerNetns         Trigger = "netns"          // the network namespace was destroyed
	TriggerNetlink       Trigger = "netlink"        // SOCK_DESTROY of sock_diag, for example ss -K
)

// Evidence is the numbers that prove an [Ending]. Bytes are payload.
type Evidence struct {
	UnreadBytes   uint32
	UnsentBytes   uint32 // never left this host
	UnackedBytes  uint32 // sent, not acknowledged
	BytesSent     uint64
	BytesReceived uint64
	// FINUnsent: the FIN was queued behind UnsentBytes or a closed window, and had not left this host when the call
	// returned.
	FINUnsent bool

	// How long ago data was last received and sent, retransmissions included; 0 if there was none, or within a tick.
	LastReceived, LastSent time.Duration
	SRTT                   time.Duration // smoothed round-trip time; 0 if none was measured
	Retransmitted          uint32        // segments sent again, SYNs included
	SndNxt, RcvNxt         uint32        // next sequence numbers to send and to receive; 0 if unknown

	LingerOn bool
	Linger   time.Duration // with LingerOn
	// Linger2 is TCP_LINGER2. 0 is the system's default; if negative, an orphan is reset instead of entering FIN_WAIT2.
	Linger2 time.Duration
	Waited  time.Duration // how long SO_LINGER blocked close(2)

	// Unanswered: this side closed first, and the last byte had come from the peer, which began the connection.
	Unanswered bool
	Idle       time.Duration // how long nothing was sent or received, if over a second
	// Retransmitting is the time since the first transmission of what is unacknowledged, or of the SYN; 0 if unknown.
	Retransmitting time.Duration
	ICMP           string // the ICMP error that a connection attempt met, in words

	SockErr int  // errno pending on the socket before the call
	Errno   int  // what the call returned, a positive errno
	PeerFIN bool // the peer had sent its FIN
	// PeerFINAgo is how long before it the peer's FIN was received, if that was seen.
	PeerFINAgo      time.Duration
	Children        uint32 // connections waiting in the listener's accept queue
	ChildrenReset   uint32
	PendingRequests uint32 // handshakes in progress on the listener
	SegmentBytes    uint32 // payload of the segment that a RST answers
	// SegmentSeq and SegmentAck are of that segment, or of the RST received; 0 if unknown, or without ACK.
	SegmentSeq, SegmentAck uint32
	RST                    *RSTHeaders // of the RST received, if they were seen
	UserTimeout            time.Duration
	Probes                 uint32 // keepalive or window probes unanswered
	Retransmits            uint32 // retransmission timeouts in a row
	References             uint32 // descriptors and calls in progress that hold the socket
	OtherHolders           uint32 // processes besides the owner that hold the socket
	SIGPIPE                bool   // the kernel raised SIGPIPE
	NetfilterHook          string // where the rule is that rejected the segment: INPUT, FORWARD, OUTPUT, PREROUTING
	MPTCP                  bool   // an MPTCP subflow
}

// Family returns the address family on the wire, "ipv4" or "ipv6". An IPv6 socket with v4-mapped addresses uses IPv4.
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

// Confidence returns "observed", or "inferred" if [Ending.Doubt] says why.
func (e *Ending) Confidence() string { return confidence(e.Doubt) }

func confidence(doubt string) string {
	if doubt != "" {
		return "inferred"
	}
	return "observed"
}

// Family returns the part of the slug before the first dot: close for close.rst.unread.
func (p Path) Family() string {
	family, _, _ := strings.Cut(string(p), ".")
	return family
}
