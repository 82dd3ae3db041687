package stuck

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Diagnosis is why a socket has not ended.
type Diagnosis string

// The diagnoses, of which exactly one holds.
const (
	// NeverAccepted: it is still in its listener's accept queue.
	NeverAccepted Diagnosis = "never-accepted"
	// Leaked: all was read, the EOF included, and nobody closes it.
	Leaked Diagnosis = "leaked"
	// NotReading: something is left to read, be it only the EOF.
	NotReading Diagnosis = "not-reading"
	// BusySending: data is not sent, or not acknowledged.
	BusySending Diagnosis = "busy-sending"
	// ForkedChild: it is held by a process that has it from another one.
	ForkedChild Diagnosis = "forked-child"
	// PeerSilent: nothing but the own FIN is not acknowledged.
	PeerSilent Diagnosis = "peer-silent"
	// PeerOpen: this end is closed, the other one is not.
	PeerOpen Diagnosis = "peer-open"
)

func (f *Finding) diagnose(s *Socket) Diagnosis {
	sending := f.Unsent+f.Unacked > 0
	eofLeft := f.EOFRead != nil && !*f.EOFRead
	switch {
	case s.Inode == 0 && s.State == events.CloseWait:
		return NeverAccepted // a close would have made it LAST_ACK
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

// margin covers that processes' times are told in hundredths of a second, and the
// kernel's clock may tick as rarely.
const margin = 50 * time.Millisecond

// inherited: each of those who hold the socket was started after something was last
// heard on it. So they have it from another process.
func inherited(s *Socket, holders []Holder) bool {
	return s.State == events.CloseWait && len(holders) > 0 &&
		!slices.ContainsFunc(holders, func(h Holder) bool { return h.Age+margin >= s.LastHeard })
}

// related are those of the holders whose parent holds the socket, too.
func related(holders []Holder) (children []Holder) {
	for _, h := range holders {
		if slices.ContainsFunc(holders, func(p Holder) bool { return p.PID == h.Parent }) {
			children = append(children, h)
		}
	}
	return children
}

// why is the diagnosis with its numbers.
func (f *Finding) why(s *Socket) string {
	switch f.Diagnosis {
	case NeverAccepted:
		return f.whyNeverAccepted()
	case Leaked:
		if len(f.Holders) == 0 {
			return "all was read, the EOF included, and it is not closed; no process is seen to hold it"
		}
		return "all was read, the EOF included, and it is not closed"
	case NotReading:
		return f.whyNotReading()
	case BusySending:
		return f.whySending(s)
	case ForkedChild:
		if children := related(f.Holders); len(children) > 0 {
			return "a child has it from its parent, and it ends when both have closed it: " + names(f.Holders)
		}
		return "who holds it was started after the connection, and has it from another process: " + names(f.Holders)
	case PeerOpen:
		return f.whyPeerOpen()
	}
	return fmt.Sprintf("all but the FIN is acknowledged; %s", sentAgain(s.Retries))
}

func (f *Finding) whyNeverAccepted() string {
	l := f.Listener
	if l == nil {
		return "it was never accepted, and its listener is not seen"
	}
	why := fmt.Sprintf("it was never accepted: %s of %s wait at %s", number(l.Queued), number(l.Backlog), l.Address)
	if len(l.Holders) > 0 {
		why += ", held by " + names(l.Holders)
	}
	if l.Others > 0 {
		why += fmt.Sprintf("; or at one of %d others there", l.Others)
	}
	return why
}

func (f *Finding) whyNotReading() string {
	switch {
	case f.Unread == 0:
		return "all but the EOF was read"
	case f.EOFRead != nil:
		return number(f.Unread) + " B and the EOF are not read"
	}
	return number(f.Unread) + " B are not read"
}

func (f *Finding) whySending(s *Socket) string {
	why := fmt.Sprintf("%s B are not sent and %s B not acknowledged; %s", number(f.Unsent), number(f.Unacked), sentAgain(s.Retries))
	if f.EOFRead != nil && !*f.EOFRead {
		why += "; the EOF is not read"
	}
	if s.Inode == 0 {
		why = "it is closed here; " + why
	}
	return why
}

func (f *Finding) whyPeerOpen() string {
	switch {
	case f.Ends != nil:
		return fmt.Sprintf("it is closed here, the peer has not closed; the kernel forgets it in %s", f.Ends.Duration().Round(time.Second))
	case f.Inode == 0:
		return "it is closed here, the peer has not closed; the kernel ends it after its time"
	}
	return "it is shut down for writing, the peer has not closed; no timer ends it"
}

func sentAgain(retries uint8) string {
	switch retries {
	case 0:
		return "nothing had to be sent again"
	case 1:
		return "sent again once without an answer"
	}
	return fmt.Sprintf("sent again %d times without an answer", retries)
}

// names writes comm[pid], or comm[pid/tid], of each, of the first three if they are many.
func names(holders []Holder) string {
	const most = 3
	var words []string
	for i, h := range holders {
		if i == most {
			words = append(words, fmt.Sprintf("%d more", len(holders)-most))
			break
		}
		words = append(words, fmt.Sprintf("%s[%s]", h.Comm, h.ID()))
	}
	return strings.Join(words, ", ")
}

// number writes n with a comma between thousands.
func number(n uint32) string {
	digits := strconv.Itoa(int(n))
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}
