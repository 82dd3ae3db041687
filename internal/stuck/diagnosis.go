package stuck

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sockets"
)

// Diagnosis is why a socket does not close.
type Diagnosis string

// The diagnoses, of which exactly one holds.
const (
	// NeverAccepted: the connection is still in the accept queue of its listener.
	NeverAccepted Diagnosis = "never-accepted"
	// QueueFull: a listener drops handshakes, because too many connections wait for accept(2).
	QueueFull Diagnosis = "accept-queue-full"
	// Leaked: everything was read, including the EOF, and the application does not close the socket.
	Leaked Diagnosis = "leaked"
	// NotReading: the application leaves data, or only the EOF, unread.
	NotReading Diagnosis = "not-reading"
	// BusySending: data is unsent or unacknowledged.
	BusySending Diagnosis = "busy-sending"
	// ForkedChild: a process holds the socket that inherited it from another one.
	ForkedChild Diagnosis = "forked-child"
	// Inherited: a program holds the socket by mistake, because it was started by the process that accepted it.
	Inherited Diagnosis = "inherited"
	// PeerSilent: only the FIN of this side is unacknowledged.
	PeerSilent Diagnosis = "peer-silent"
	// PeerOpen: this side is closed or shut down, the peer has not closed.
	PeerOpen Diagnosis = "peer-open"
)

// WaitsForPeer reports whether the peer has to act, or the network. Otherwise this side has to.
func (d Diagnosis) WaitsForPeer() bool { return d == BusySending || d == PeerSilent || d == PeerOpen }

// afterFIN reports whether this side has sent its FIN, so that the peer has to act next.
func afterFIN(s events.State) bool { return s != events.CloseWait && s != events.Listen }

// falseFirst compares for sorting.
func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (f *Finding) diagnose(s *sockets.Socket) Diagnosis {
	sending := f.Unsent+f.Unacked > 0
	eofLeft := f.EOFRead != nil && !*f.EOFRead
	switch {
	case s.Inode == 0 && s.State == events.CloseWait:
		return NeverAccepted // after a close it would be in LAST_ACK
	case inherited(s, f.Holders):
		return ForkedChild
	case sending:
		return BusySending
	case s.Inode != 0 && (f.Unread > 0 || eofLeft):
		return NotReading
	case s.State == events.CloseWait && len(related(f.Holders)) > 0:
		return ForkedChild
	case s.State == events.CloseWait:
		return Leaked
	case s.State == events.FinWait2:
		return PeerOpen
	}
	return PeerSilent
}

// margin is the error of the comparison of two ages: /proc has the start of processes in hundredths of a second, and a
// jiffy may be as long.
const margin = 50 * time.Millisecond

// inherited reports whether every holder started after the last segment of the peer, so that they inherited the socket
// from another process.
func inherited(s *sockets.Socket, holders []sockets.Holder) bool {
	return s.State == events.CloseWait && len(holders) > 0 &&
		!slices.ContainsFunc(holders, func(h sockets.Holder) bool { return h.Age+margin >= s.LastHeard })
}

// related returns the holders whose parent is a holder as well.
func related(holders []sockets.Holder) (children []sockets.Holder) {
	for _, h := range holders {
		if slices.ContainsFunc(holders, func(p sockets.Holder) bool { return p.PID == h.Parent }) {
			children = append(children, h)
		}
	}
	return children
}

// why returns the diagnosis in words, with its numbers.
func (f *Finding) why(s *sockets.Socket) string {
	switch f.Diagnosis {
	case NeverAccepted:
		return f.whyNeverAccepted()
	case Leaked:
		return "everything was read, including the EOF, but the socket is still open" + f.unheld()
	case NotReading:
		return f.whyNotReading() + f.unheld()
	case BusySending:
		return f.whySending(s)
	case ForkedChild:
		if children := related(f.Holders); len(children) > 0 {
			return "shared by a parent and its child; it closes when both have closed it: " + names(f.Holders)
		}
		return "inherited: every holder started after the connection: " + names(f.Holders)
	case PeerOpen:
		return f.whyPeerOpen()
	}
	return whyFIN(s)
}

func (f *Finding) whyNeverAccepted() string {
	l := f.Listener
	if l == nil {
		return "never accepted; its listener is not visible"
	}
	// The kernel lets one more than the backlog wait.
	why := fmt.Sprintf("never accepted: in the accept queue of %s (%s, backlog %s)",
		l.Address, number(l.Queued), number(l.Backlog))
	if len(l.Holders) > 0 {
		why += ", held by " + names(l.Holders)
	}
	if l.Others > 0 {
		why += "; or in that of " + events.Quantity(uint64(l.Others), "other listener", "other listeners") + " there"
	}
	return why
}

// addConditions adds to the reason which processes that have to act cannot.
func (f *Finding) addConditions() {
	holders := f.Holders
	switch f.Diagnosis {
	case NeverAccepted:
		if f.Listener == nil {
			return
		}
		holders = f.Listener.Holders
	case QueueFull, NotReading, Leaked, Inherited, ForkedChild:
	default:
		return
	}
	if words := conditions(holders); words != "" {
		f.Why += "; " + words
	}
}

// unheld says that no descriptor of the socket was found, as of one in an io_uring or in a message.
func (f *Finding) unheld() string {
	if len(f.Holders) > 0 {
		return ""
	}
	return "; its holder is not visible"
}

func (f *Finding) whyNotReading() string {
	switch {
	case f.Unread == 0:
		return "only the EOF is unread"
	case f.EOFRead != nil:
		return number(f.Unread) + " B and the EOF are unread"
	}
	return number(f.Unread) + " B unread"
}

func (f *Finding) whySending(s *sockets.Socket) string {
	why := fmt.Sprintf("%s B unsent, %s B unacknowledged%s", number(f.Unsent), number(f.Unacked), after(s))
	if f.EOFRead != nil && !*f.EOFRead {
		why += "; EOF unread"
	}
	if s.Inode == 0 {
		why = "closed on this side; " + why
	}
	return why
}

func (f *Finding) whyPeerOpen() string {
	switch {
	case f.Ends != nil:
		return fmt.Sprintf("closed on this side, the peer has not closed; the kernel removes it in %s",
			f.Ends.Duration().Round(time.Second))
	case f.Inode == 0:
		return "closed on this side, the peer has not closed; a timer will end it"
	}
	return "shut down for writing, the peer has not closed; no timer ends it"
}

func whyFIN(s *sockets.Socket) string {
	if windowClosed(s) {
		return "FIN unsent" + after(s)
	}
	return "FIN unacknowledged" + after(s)
}

// windowClosed reports whether all that was sent is acknowledged, and the peer's receive window has no room for the
// rest. The kernel then has nothing to retransmit: its timer sends window probes.
func windowClosed(s *sockets.Socket) bool {
	return s.WindowClosed && s.NotSent > 0 && s.NotSent == s.SendQueue
}

// after returns how often the oldest unacknowledged segment was retransmitted, or that the peer's window is closed.
// Each window probe doubles the timeout, whether it is answered or not.
func after(s *sockets.Socket) string {
	switch {
	case windowClosed(s) && s.Backoff == 0:
		return "; the peer's receive window is closed, no window probe yet"
	case windowClosed(s):
		return "; the peer's receive window is closed, the kernel probes it"
	case s.Retries == 0:
		return "; no retransmission yet"
	}
	return " after " + events.Quantity(uint64(s.Retries), "retransmission", "retransmissions")
}

// mostNames is how many processes are named in one reason.
const mostNames = 3

// names lists holders as comm[pid] or comm[pid/tid], at most three of them.
func names(holders []sockets.Holder) string {
	var words []string
	for i, h := range holders {
		if i == mostNames {
			words = append(words, fmt.Sprintf("%d more", len(holders)-mostNames))
			break
		}
		words = append(words, fmt.Sprintf("%s[%s]", h.Comm, h.ID()))
	}
	return strings.Join(words, ", ")
}

func number(n uint32) string { return events.Grouped(uint64(n)) }
