// Package stuck says why a TCP socket has not ended: what its numbers prove, and
// who would have to do what. It is a function of facts, which others collect.
package stuck

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Socket is what the kernel says of one socket.
type Socket struct {
	Netns         uint32 // inode number
	Local, Remote netip.AddrPort
	State         events.State
	Inode         uint64 // of its file; 0: not accepted yet, or closed
	UID           uint32

	// ReceiveQueue is rcv_nxt - copied_seq: a FIN received counts one until it was
	// read. Of a listener: the connections that wait for accept(2).
	ReceiveQueue uint32
	// SendQueue is write_seq - snd_una: the own FIN counts one until it is
	// acknowledged. Of a listener: the backlog.
	SendQueue uint32
	NotSent   uint32 // write_seq - snd_nxt: the part of SendQueue that was never sent

	// LastHeard is how long ago the last acknowledgement was taken in.
	LastHeard time.Duration
	// InState is for how long it has been in its state; 0: nobody saw it come there.
	InState time.Duration
	RTO     time.Duration // the present one
	Backoff uint8         // how often it was doubled
	Retries uint8         // retransmissions that nobody answered

	// Mini: all that is left is what the kernel keeps of a FIN_WAIT2 that was
	// closed, for as long as TimeLeft. It has no numbers but InState.
	Mini     bool
	TimeLeft time.Duration
}

// Holder is a process that has a socket open.
type Holder struct {
	PID    uint32        `json:"pid"`
	TID    uint32        `json:"tid,omitempty"` // of a thread that has a table of descriptors of its own
	Comm   string        `json:"comm"`
	UID    uint32        `json:"uid"`
	FDs    []int         `json:"fds"`
	Parent uint32        `json:"-"`
	Age    time.Duration `json:"-"` // since it was started
}

// ID is the process's, or process/thread.
func (h Holder) ID() string {
	if h.TID == 0 {
		return strconv.Itoa(int(h.PID))
	}
	return fmt.Sprintf("%d/%d", h.PID, h.TID)
}

// Listener is a socket that accepts connections, and those who hold it.
type Listener struct {
	Address netip.AddrPort `json:"address"`
	Queued  uint32         `json:"queued"`  // waiting for accept(2)
	Backlog uint32         `json:"backlog"` // how many may
	Holders []Holder       `json:"holders,omitempty"`
	// Others is how many other listeners of this address have connections waiting,
	// so that it may be one of theirs (SO_REUSEPORT).
	Others int `json:"others,omitempty"`
}

// Finding is what is known of a socket that has not ended.
type Finding struct {
	Netns   uint32         `json:"netns"`
	Local   netip.AddrPort `json:"local"`
	Remote  netip.AddrPort `json:"remote"`
	State   events.State   `json:"state"`
	Age     *Milliseconds  `json:"age_at_least_ms,omitempty"` // in this state; nil: nothing is known
	Exact   *Milliseconds  `json:"age_ms,omitempty"`          // the same, where the change of state was traced
	Ends    *Milliseconds  `json:"ends_in_ms,omitempty"`      // when the kernel will end it by itself
	Unread  uint32         `json:"unread_bytes"`
	Unsent  uint32         `json:"unsent_bytes"`
	Unacked uint32         `json:"unacked_bytes"`
	// EOFRead tells whether the end of the stream was taken in by a read; nil: there
	// was none yet, or there is nobody to read it.
	EOFRead   *bool     `json:"eof_read,omitempty"`
	Inode     uint64    `json:"inode,omitempty"`
	Holders   []Holder  `json:"holders,omitempty"`
	Listener  *Listener `json:"listener,omitempty"` // of one that was never accepted
	Service   string    `json:"service"`
	Diagnosis Diagnosis `json:"diagnosis"`
	Why       string    `json:"why"`
}

// Milliseconds is a duration in JSON.
type Milliseconds int64

// Duration is the same for computing.
func (m Milliseconds) Duration() time.Duration { return time.Duration(m) * time.Millisecond }

// waits tells whether a socket in this state is waiting for its end.
func waits(s events.State) bool {
	switch s {
	case events.CloseWait, events.FinWait1, events.FinWait2, events.LastAck, events.Closing:
		return true
	}
	return false
}

// Wanted are the inodes whose holders are of interest.
func Wanted(all []Socket) map[uint64]bool {
	wanted := map[uint64]bool{}
	for i := range all {
		if s := &all[i]; s.Inode != 0 && (s.State == events.Listen || waits(s.State)) {
			wanted[s.Inode] = true
		}
	}
	return wanted
}

// Find says what there is to say of all sockets that wait for their end. all is
// every socket of their network namespaces, the listeners among them.
func Find(all []Socket, holders map[uint64][]Holder) []Finding {
	doors := newDoors(all, holders)
	var found []Finding
	for i := range all {
		if s := &all[i]; waits(s.State) {
			found = append(found, find(s, holders[s.Inode], doors))
		}
	}
	return found
}

func find(s *Socket, holders []Holder, d doors) Finding {
	f := Finding{
		Netns: s.Netns, Local: s.Local, Remote: s.Remote, State: s.State,
		Inode: s.Inode, Holders: holders, Service: d.service(s),
	}
	if s.Mini {
		left := Milliseconds(s.TimeLeft.Milliseconds())
		f.Ends = &left
	} else {
		f.queues(s)
		f.Age = age(s)
	}
	if s.InState > 0 {
		exact := Milliseconds(s.InState.Milliseconds())
		f.Age, f.Exact = &exact, &exact
	}
	if f.Diagnosis = f.diagnose(s); f.Diagnosis == NeverAccepted {
		f.Listener = d.listener(s)
	}
	f.Why = f.why(s)
	return f
}

// queues takes the FINs out of the numbers.
func (f *Finding) queues(s *Socket) {
	f.Unread, f.Unsent = s.ReceiveQueue, s.NotSent
	f.Unacked = s.SendQueue - min(s.NotSent, s.SendQueue)
	if peerClosed(s.State) {
		read := s.ReceiveQueue == 0
		f.Unread -= min(f.Unread, 1)
		if s.Inode != 0 || s.State == events.CloseWait {
			f.EOFRead = &read
		}
	}
	if s.Inode == 0 && s.State != events.CloseWait {
		f.Unread = 0 // closed, so that nobody can read it
	}
	// The own FIN comes last: it is unsent if anything is.
	switch s.State {
	case events.FinWait1, events.LastAck, events.Closing:
		if f.Unsent > 0 {
			f.Unsent--
		} else {
			f.Unacked -= min(f.Unacked, 1)
		}
	}
}

// peerClosed: its FIN has been received in these states.
func peerClosed(s events.State) bool {
	return s == events.CloseWait || s == events.LastAck || s == events.Closing
}

// age is how long the socket has at least been in its state.
//
// A segment of the peer's brought about CLOSE_WAIT, FIN_WAIT2 and CLOSING, and it
// came no later than the last one. A call brought about the others, of which the
// kernel keeps no time: but a FIN that is all there is to acknowledge, and was
// sent again and again, has been sent for as long as the timeouts took, each at
// most twice the one before.
func age(s *Socket) *Milliseconds {
	var d time.Duration
	switch s.State {
	case events.CloseWait, events.FinWait2, events.Closing:
		d = s.LastHeard
	default:
		if s.SendQueue != 1 || s.Backoff == 0 || s.Retries == 0 {
			return nil
		}
		d = s.RTO - s.RTO>>min(s.Backoff, s.Retries)
	}
	ms := Milliseconds(d.Milliseconds())
	return &ms
}
