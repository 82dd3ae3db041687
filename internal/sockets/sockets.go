// Package sockets lists the TCP sockets of this machine: their state and numbers, who holds them, and for how long they
// have been in their state. It draws no conclusions.
package sockets

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Socket is one TCP socket as the kernel shows it.
type Socket struct {
	Netns         uint32 // inode number
	Local, Remote netip.AddrPort
	State         events.State
	Inode         uint64 // of its file; 0: not accepted yet, or closed
	UID           uint32

	// ReceiveQueue is rcv_nxt - copied_seq: a received FIN counts as one byte until it is read. Of a listener: the
	// number of connections that wait for accept(2).
	ReceiveQueue uint32
	// SendQueue is write_seq - snd_una: this side's FIN counts as one byte until it is acknowledged. Of a listener: the
	// backlog.
	SendQueue uint32
	NotSent   uint32 // write_seq - snd_nxt: the part of SendQueue that was never sent

	LastHeard time.Duration // since the last acknowledgement was received
	InState   time.Duration // since the socket entered its state; 0: unknown
	RTO       time.Duration // current retransmission timeout
	Backoff   uint8         // number of times that the timeout was doubled
	Retries   uint8         // retransmissions without an answer

	WindowClosed bool // the peer's receive window has no space for more than was sent

	// Mini: the kernel freed the socket after its close and keeps only a FIN_WAIT2 entry, for TimeLeft. Of the numbers
	// it has InState alone.
	Mini     bool
	TimeLeft time.Duration
}

// Holder is a process that has a socket open.
type Holder struct {
	PID    uint32        `json:"pid"`
	TID    uint32        `json:"tid,omitempty"` // of a thread with a descriptor table of its own
	Comm   string        `json:"comm"`
	UID    uint32        `json:"uid"`
	FDs    []int         `json:"fds"` // in ascending order
	Parent uint32        `json:"-"`   // process id
	Age    time.Duration `json:"-"`   // since the process started

	Process *Process `json:"process,omitempty"` // nil: unknown
}

// ID returns the process id, or process/thread.
func (h Holder) ID() string {
	if h.TID == 0 {
		return strconv.Itoa(int(h.PID))
	}
	return fmt.Sprintf("%d/%d", h.PID, h.TID)
}

// Snapshot is what Source.Look found.
type Snapshot struct {
	Sockets *List
	Holders *Holders
	// KeptByExec is that of the source. It may be nil.
	KeptByExec func(pid, tid uint32, fd int) bool

	HiddenProcesses    int  // whose descriptors may not be read
	InaccessibleSpaces int  // network namespaces that may not be entered
	Incomplete         bool // sockets changed while they were listed
}
