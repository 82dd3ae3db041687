// Package stuck diagnoses sockets that do not close: what their numbers prove, and which process or peer has to act.
// It is a function of facts that package sockets collects.
package stuck

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sockets"
)

// Listener is a listening socket and its holders.
type Listener struct {
	Address netip.AddrPort   `json:"address"`
	Queued  uint32           `json:"queued"`  // connections that wait for accept(2)
	Backlog uint32           `json:"backlog"` // limit of Queued
	Holders []sockets.Holder `json:"holders,omitempty"`
	// Others is the number of other listeners at this address with connections in their queue (SO_REUSEPORT): the
	// connection may be in one of those.
	Others int `json:"others,omitempty"`
}

// Finding is a socket that does not close, with its diagnosis.
type Finding struct {
	Netns   uint32         `json:"netns"`
	Local   netip.AddrPort `json:"local"`
	Remote  netip.AddrPort `json:"remote"`
	State   events.State   `json:"state"`
	Age     *Milliseconds  `json:"age_at_least_ms,omitempty"` // in this state; nil: unknown
	Exact   *Milliseconds  `json:"age_ms,omitempty"`          // the same, if the change of state was traced
	Ends    *Milliseconds  `json:"ends_in_ms,omitempty"`      // until the kernel removes it
	Unread  uint32         `json:"unread_bytes"`
	Unsent  uint32         `json:"unsent_bytes"`
	Unacked uint32         `json:"unacked_bytes"`
	// EOFRead reports whether the application read the EOF. It is nil if the peer sent none, or if the socket is
	// closed.
	EOFRead   *bool            `json:"eof_read,omitempty"`
	Inode     uint64           `json:"inode,omitempty"`
	Holders   []sockets.Holder `json:"holders,omitempty"`
	Listener  *Listener        `json:"listener,omitempty"` // of a connection that was never accepted, or itself
	Service   string           `json:"service"`
	Diagnosis Diagnosis        `json:"diagnosis"`
	Why       string           `json:"why"`
}

// Milliseconds is a duration in JSON.
type Milliseconds int64

// Duration returns m as a duration.
func (m Milliseconds) Duration() time.Duration { return time.Duration(m) * time.Millisecond }

// isClosing reports whether a socket in this state has sent or received a FIN, and the connection still exists.
func isClosing(s events.State) bool {
	switch s {
	case events.CloseWait, events.FinWait1, events.FinWait2, events.LastAck, events.Closing:
		return true
	}
	return false
}

// WantHolders returns the inodes of the sockets whose holders a diagnosis needs.
func WantHolders(all *sockets.List) sockets.Inodes {
	var wanted []uint64
	for _, s := range all.All() {
		if s.Inode != 0 && (s.State == events.Listen || isClosing(s.State)) {
			wanted = append(wanted, s.Inode)
		}
	}
	return sockets.NewInodes(wanted)
}

// Report has the sockets of a snapshot that do not close, and the listeners whose accept queue is full: first those
// of which this side has not sent its FIN, then the others, the oldest first. It keeps their positions only: a finding
// is made when it is asked for, because there may be hundreds of thousands.
type Report struct {
	from      *sockets.Snapshot
	listeners *listeners
	order     []uint32 // positions in the list of sockets
	// Hidden is the number of sockets that are younger than asked for, or of unknown age.
	Hidden int
}

// NewReport returns a report of the sockets that match a filter and are known to be in their state for at least a time.
// The snapshot holds every socket of their network namespaces that does not close, and the listeners.
func NewReport(from *sockets.Snapshot, f *Filter, least Milliseconds) *Report {
	r := &Report{from: from, listeners: newListeners(from)}
	var ages []Milliseconds // by position, -1: unknown
	for i, s := range from.Sockets.All() {
		known := Milliseconds(-1)
		if (isClosing(s.State) || isFull(&s)) && r.matches(f, &s) {
			if age := ageOf(&s); age != nil {
				known = *age
			}
			if least <= 0 || known >= least {
				r.order = append(r.order, uint32(i))
			} else {
				r.Hidden++
			}
		}
		ages = append(ages, known)
	}
	slices.SortFunc(r.order, func(i, j uint32) int {
		return cmp.Or(falseFirst(afterFIN(from.Sockets.At(int(i)).State), afterFIN(from.Sockets.At(int(j)).State)),
			cmp.Compare(ages[j], ages[i]), from.Sockets.CompareEnds(int(i), int(j)))
	})
	return r
}

func (r *Report) matches(f *Filter, s *sockets.Socket) bool {
	if !f.matchSocket(s) {
		return false
	}
	if !f.isByProcess() {
		return true
	}
	found := r.finding(s)
	return f.matchHolder(&found)
}

// finding diagnoses a socket.
func (r *Report) finding(s *sockets.Socket) Finding {
	holders := r.from.Holders.Of(s.Inode)
	if isClosing(s.State) {
		return find(s, holders, r.listeners)
	}
	return fullListener(s, holders, r.listeners)
}

// Len returns the number of findings.
func (r *Report) Len() int { return len(r.order) }

// Findings makes the findings, in the order of the report. Each is good until the next one.
func (r *Report) Findings() iter.Seq[*Finding] {
	return func(yield func(*Finding) bool) {
		for _, i := range r.order {
			s := r.from.Sockets.At(int(i))
			if f := r.finding(&s); !yield(&f) {
				return
			}
		}
	}
}

// Find returns all findings of a snapshot, in the order of a report.
func Find(from *sockets.Snapshot) (found []Finding) {
	for f := range NewReport(from, &Filter{}, 0).Findings() {
		found = append(found, *f)
	}
	return found
}

// isFull reports whether the kernel drops handshakes because the accept queue of a listener is full, as
// sk_acceptq_is_full does: the queue takes one connection more than its limit.
func isFull(s *sockets.Socket) bool { return s.State == events.Listen && s.ReceiveQueue > s.SendQueue }

// fullListener returns the finding of a listener whose accept queue is full. It has neither a peer nor an age.
func fullListener(s *sockets.Socket, holders []sockets.Holder, l *listeners) Finding {
	f := Finding{
		Netns: s.Netns, Local: s.Local, State: s.State, Inode: s.Inode, Holders: holders, Service: l.service(s),
		Listener:  &Listener{Address: s.Local, Queued: s.ReceiveQueue, Backlog: s.SendQueue, Holders: holders},
		Diagnosis: QueueFull,
	}
	f.Why = fmt.Sprintf("the accept queue is full (%s of %s); %s",
		number(s.ReceiveQueue), number(s.SendQueue), whoDoesNotAccept(holders))
	f.addConditions()
	return f
}

func whoDoesNotAccept(holders []sockets.Holder) string {
	switch len(holders) {
	case 0:
		return "its holder is not visible"
	case 1:
		return names(holders) + " does not accept, or too slowly"
	}
	return names(holders) + " do not accept, or too slowly"
}

func find(s *sockets.Socket, holders []sockets.Holder, l *listeners) Finding {
	f := Finding{
		Netns: s.Netns, Local: s.Local, Remote: s.Remote, State: s.State,
		Inode: s.Inode, Holders: holders, Service: l.service(s),
	}
	if s.Mini {
		left := Milliseconds(s.TimeLeft.Milliseconds())
		f.Ends = &left
	} else {
		f.queues(s)
	}
	if f.Age = ageOf(s); s.InState > 0 {
		f.Exact = f.Age
	}
	if f.Diagnosis = f.diagnose(s); f.Diagnosis == NeverAccepted {
		f.Listener = l.find(s)
	}
	f.Why = f.why(s)
	if heirs := l.heirs(s, holders); heirs != nil {
		f.Diagnosis, f.Why = Inherited, whyInherited(heirs, s.Local.Port())+"; "+f.Why
	}
	f.addConditions()
	return f
}

// queues sets the numbers of bytes, without the FINs that the kernel counts as one byte each.
func (f *Finding) queues(s *sockets.Socket) {
	f.Unread, f.Unsent = s.ReceiveQueue, s.NotSent
	f.Unacked = s.SendQueue - min(s.NotSent, s.SendQueue)
	if hasPeerFIN(s.State) {
		read := s.ReceiveQueue == 0
		f.Unread -= min(f.Unread, 1)
		if s.Inode != 0 || s.State == events.CloseWait {
			f.EOFRead = &read
		}
	}
	if s.Inode == 0 && s.State != events.CloseWait {
		f.Unread = 0 // the socket is closed: no process can read it
	}
	// This side's FIN is the last byte of the queue: it is unsent if anything is.
	switch s.State {
	case events.FinWait1, events.LastAck, events.Closing:
		if f.Unsent > 0 {
			f.Unsent--
		} else {
			f.Unacked -= min(f.Unacked, 1)
		}
	}
}

// hasPeerFIN reports whether the peer's FIN was received before this state.
func hasPeerFIN(s events.State) bool {
	return s == events.CloseWait || s == events.LastAck || s == events.Closing
}

// ageOf returns how long the socket has been in its state, or at least; nil if nothing is known. A listener has no age.
func ageOf(s *sockets.Socket) *Milliseconds {
	switch {
	case s.State == events.Listen:
		return nil
	case s.InState > 0:
		exact := Milliseconds(s.InState.Milliseconds())
		return &exact
	case s.Mini:
		return nil
	}
	return age(s)
}

// age returns how long the socket has at least been in its state, or nil.
//
// A segment of the peer leads to CLOSE_WAIT, FIN_WAIT2 and CLOSING, and it arrived no later than the last one. A call
// leads to the other states, and the kernel keeps no time of it. But if this side's FIN is all that is
// unacknowledged, and was retransmitted, then it was sent at least as long ago as the timeouts lasted, each at most
// twice the one before.
func age(s *sockets.Socket) *Milliseconds {
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
