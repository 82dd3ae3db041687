package ladder

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// New returns the ladder of the endings of one connection, of one or both of its ends. The end with the higher port is
// on the left, because it usually began the connection. What an ending says about an earlier one that is not among
// them is a step as well.
func New(endings []*events.Ending) *Model {
	if len(endings) == 0 {
		return &Model{}
	}
	endings = inOrder(endings)
	b := &builder{model: &Model{}, endings: endings}
	left := endings[0].Local
	if left.Port() < endings[0].PeerAddr().Port() {
		left = endings[0].PeerAddr()
	}
	b.left = left
	for side := range b.model.Ends {
		b.model.Ends[side].Unseen = true
	}
	b.name(endings[0])
	for _, e := range endings {
		b.add(e)
	}
	b.sort()
	return b.model
}

// inOrder returns the endings by time, a RST received after the ending that sent it.
func inOrder(endings []*events.Ending) []*events.Ending {
	sorted := slices.Clone(endings)
	slices.SortStableFunc(sorted, func(x, y *events.Ending) int { return x.Time.Compare(y.Time) })
	for i, e := range sorted {
		sender := slices.IndexFunc(sorted[i+1:], func(x *events.Ending) bool { return isSender(x, e) })
		if sender < 0 || sorted[i+1+sender].Time.Sub(e.Time) > skewOf(e) {
			continue
		}
		copy(sorted[i:], sorted[i+1:i+2+sender])
		sorted[i+1+sender] = e
	}
	return sorted
}

// sort sorts the steps by time. Those of endings stay in their order.
func (b *builder) sort() {
	latest := time.Time{}
	for i := range b.model.Steps {
		step := &b.model.Steps[i]
		if step.inferred() {
			continue
		}
		if step.At.Before(latest) {
			step.At = latest // a RST received: see skew
		}
		latest = step.At
	}
	slices.SortStableFunc(b.model.Steps, func(x, y Step) int { return x.At.Compare(y.At) })
}

func (s *Step) inferred() bool { return s.Acts[Left].Inferred || s.Acts[Right].Inferred }

// skew is by how much a RST may be received before the time of the call that sent it: the call began earlier or later
// than the segment, by its kind.
const skew = time.Millisecond

// skewOf returns the skew of a RST received. The clocks of two hosts differ by more.
func skewOf(e *events.Ending) time.Duration {
	if e.Peer.Host != nil {
		return time.Minute
	}
	return skew
}

// isSender reports whether x sent the RST that y received.
func isSender(x, y *events.Ending) bool {
	return y.ReceivedRST() && x.RST && x.Local == y.PeerAddr() && y.Peer != nil && y.Peer.Path == x.Path
}

// builder makes a model.
type builder struct {
	model   *Model
	endings []*events.Ending
	left    netip.AddrPort
	closed  [2]bool // the application of this side has closed
	atEOF   [2]bool // and this one has read EOF
}

func (b *builder) side(e *events.Ending) Side {
	if e.Local == b.left {
		return Left
	}
	return Right
}

// name sets the addresses of the ends.
func (b *builder) name(e *events.Ending) {
	side := b.side(e)
	b.model.Ends[side].Name = Address(e.Local)
	b.model.Ends[side.Other()].Name = Address(e.PeerAddr())
}

// Address returns an address as it is shown.
func Address(a netip.AddrPort) string {
	if !a.IsValid() {
		return "-"
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
}

// add adds the steps of an ending.
func (b *builder) add(e *events.Ending) {
	side := b.side(e)
	end := &b.model.Ends[side]
	end.Unseen = false
	if e.Host != nil {
		end.Host = e.Host.Label
	}
	if t := holder(e); t != nil {
		end.Process = Task(t)
	}
	b.addPast(e, e.Earlier, side)
	b.addPast(e, e.Peer, side.Other())
	b.addPeerFIN(e, side)
	step := Step{At: e.Time, Segments: b.segments(e, side)}
	step.Acts[side] = Act{
		What: What(e), Before: e.Before, After: e.After, Facts: facts(e), Got: b.got(e, side), Closed: closed(e),
	}
	if t := e.Actor; t != nil && end.Process != "" && Task(t) != end.Process {
		step.Acts[side].What += " by " + Task(t)
	}
	b.model.Steps = append(b.model.Steps, step)
	b.closed[side] = b.closed[side] || closes(e.Path)
}

// closes reports whether an application has no descriptor of the socket after an ending.
func closes(path events.Path) bool { return path.Family() == "close" }

// wasClosed is what took the socket from an application if its trigger does not show the application's part.
const wasClosed = "the socket was closed"

// closed returns what took the socket from its application, empty if the ending did not. The application reads no
// error of it.
func closed(e *events.Ending) string {
	if !closes(e.Path) {
		return ""
	}
	if e.Path == events.CloseRSTChild {
		return "it had not accepted the connection"
	}
	switch e.Trigger {
	case events.TriggerSignal:
		return "it was " + What(e)
	case events.TriggerExit:
		return "it exited without closing the socket"
	case events.TriggerExecve:
		return "it started another program (close-on-exec)"
	case events.TriggerClose, events.TriggerDup2, events.TriggerIOUring, events.TriggerLastReference:
		return "it closed the socket"
	}
	return wasClosed
}

// holder returns the process that an ending shows to hold the socket. The actor of others only ended it.
func holder(e *events.Ending) *events.Task {
	switch e.Trigger {
	case events.TriggerNetlink, events.TriggerNetns, events.TriggerKernel:
		return e.Owner
	}
	return cmp.Or(e.Owner, e.Actor)
}

// Task returns a process as it is shown.
func Task(t *events.Task) string { return t.Name() + "[" + strconv.FormatUint(uint64(t.PID), 10) + "]" }

// addPast adds an earlier ending that is known by a later one only.
func (b *builder) addPast(e *events.Ending, p *events.Past, side Side) {
	if p == nil || b.has(p.Path, side) {
		return
	}
	end := &b.model.Ends[side]
	end.Unseen = false
	if p.Host != nil {
		end.Host = p.Host.Label
	}
	if p.Actor != nil && end.Process == "" {
		end.Process = Task(p.Actor)
	}
	title := p.Path.Info().Title
	step := Step{At: e.Time.Add(-time.Duration(p.AgoNS))}
	step.Acts[side] = Act{What: title, Inferred: true}
	if closes(p.Path) {
		step.Acts[side].Closed = wasClosed
	}
	for _, label := range []string{"FIN", "RST"} {
		if strings.Contains(title, label) && p.Path.Family() != "recv" {
			step.Segments = append(step.Segments, Segment{From: side, Label: label})
		}
	}
	b.closed[side] = b.closed[side] || closes(p.Path)
	b.model.Steps = append(b.model.Steps, step)
}

// has reports whether an ending of this path and side is among the endings.
func (b *builder) has(path events.Path, side Side) bool {
	return slices.ContainsFunc(b.endings, func(e *events.Ending) bool { return e.Path == path && b.side(e) == side })
}

// addPeerFIN adds the FIN that this end had received before an ending, if no ending of its own reports it.
func (b *builder) addPeerFIN(e *events.Ending, side Side) {
	if e.Path == events.RecvFIN || e.Evidence.PeerFINAgo == 0 || b.has(events.RecvFIN, side) {
		return
	}
	at := e.Time.Add(-e.Evidence.PeerFINAgo)
	for _, other := range b.model.Steps {
		if other.Acts[side].What == finReceived && other.At.Sub(at).Abs() < skew {
			return
		}
	}
	step := Step{At: at}
	step.Acts[side] = Act{What: finReceived, Inferred: true}
	if !b.closed[side] {
		step.Acts[side].Got, b.atEOF[side] = eof, true
	}
	if !b.sent("FIN", side.Other()) {
		step.Segments = []Segment{{From: side.Other(), Label: "FIN"}}
	}
	b.model.Steps = append(b.model.Steps, step)
}

const (
	finReceived = "FIN received"
	eof         = "recv(2): EOF"
)

// sent reports whether a step of this side sends such a segment, or an ending will.
func (b *builder) sent(label string, side Side) bool {
	for _, step := range b.model.Steps {
		for _, s := range step.Segments {
			if s.From == side && s.Label == label && !s.Lost {
				return true
			}
		}
	}
	return slices.ContainsFunc(b.endings, func(e *events.Ending) bool {
		return b.side(e) == side && (label == "RST" && e.RST || label == "FIN" && e.FIN && !e.Evidence.FINUnsent)
	})
}

// segments returns the segments of an ending.
func (b *builder) segments(e *events.Ending, side Side) []Segment {
	var all []Segment
	switch {
	case e.Path == events.RecvFIN:
		if !b.sent("FIN", side.Other()) {
			all = append(all, Segment{From: side.Other(), Label: "FIN"})
		}
	case e.ReceivedRST():
		if !b.sent("RST", side.Other()) {
			all = append(all, Segment{From: side.Other(), Label: "RST"})
		}
	case e.Path.Family() == "reply":
		all = append(all, Segment{From: side.Other(), Label: b.answered(e)})
	}
	if e.FIN && !e.Evidence.FINUnsent {
		all = append(all, Segment{From: side, Label: "FIN"})
	}
	if e.RST {
		all = append(all, Segment{From: side, Label: "RST"})
	}
	return all
}

// answered returns the segment that a RST in reply answers.
func (b *builder) answered(e *events.Ending) string {
	connecting := func(x *events.Ending) bool { return x.Before == events.SynSent && x.Local == e.PeerAddr() }
	switch n := e.Evidence.SegmentBytes; {
	case n > 0:
		return events.Grouped(uint64(n)) + " B"
	case e.Evidence.SegmentAck == 0 && slices.ContainsFunc(b.endings, connecting):
		return "SYN"
	}
	return "segment"
}

// got returns what the application gets of an ending.
func (b *builder) got(e *events.Ending, side Side) string {
	v := &e.Evidence
	switch {
	case e.Path.Family() == "app" && e.Path != events.AppCloseShared:
		text := "send(2): EPIPE"
		if v.SIGPIPE {
			text += ", SIGPIPE"
		}
		return text
	case v.Errno != 0:
		return What(e) + ": " + Errno(v.Errno)
	case b.closed[side] || closes(e.Path):
		return ""
	case e.Path == events.RecvFIN:
		b.atEOF[side] = true
		return eof
	case v.SockErr == 0:
		return ""
	case !v.PeerFIN && v.SockErr != int(events.EPIPE):
		return Errno(v.SockErr)
	case b.atEOF[side]: // recv(2) goes on to return 0, whatever ended the connection
		return "send(2): " + Errno(v.SockErr)
	}
	return eof + "; send(2): " + Errno(v.SockErr)
}

// Errno returns the name of an error.
func Errno(n int) string { return cmp.Or(events.Errno(n).Name(), "errno "+strconv.Itoa(n)) }

// timers are the timers that end connections.
var timers = map[events.Path]string{
	events.AbortKeepalive: "keepalive timer", events.AbortKeepaliveTimeout: "keepalive timer",
	events.AbortUserTimeout: "TCP_USER_TIMEOUT", events.AbortRetransTimeout: "retransmission timer",
	events.AbortOrphanRetries: "retransmission timer", events.AbortSynAckTimeout: "SYN-ACK timer",
	events.AbortFINWait2: "FIN_WAIT2 timer",
}

// calls are the names of what sets off an ending.
var calls = map[events.Trigger]string{
	events.TriggerClose: "close(2)", events.TriggerShutdown: "shutdown(2)", events.TriggerExit: "process exit",
	events.TriggerExecve: "execve(2)", events.TriggerDup2: "dup2(2)", events.TriggerIOUring: "close by io_uring",
	events.TriggerLastReference: "last reference released", events.TriggerConnect: "connect(AF_UNSPEC)",
	events.TriggerKernel: "close by the kernel", events.TriggerSCMRights: "message with the descriptor discarded",
	events.TriggerNetns: "network namespace destroyed", events.TriggerNetlink: "SOCK_DESTROY (ss -K)",
	events.TriggerTimer: "timer",
}

// What returns what set off an ending, as the ladder shows it.
func What(e *events.Ending) string {
	switch e.Trigger {
	case events.TriggerSegment:
		return cmp.Or(e.Title, e.Path.Info().Title, string(e.Path))
	case events.TriggerSignal:
		return "killed by " + cmp.Or(events.SignalName(e.Signal), "signal "+strconv.Itoa(e.Signal))
	case events.TriggerWrite:
		return "send(2)"
	}
	return cmp.Or(timers[e.Path], calls[e.Trigger], string(e.Trigger))
}

// facts returns the numbers that decide an ending, or show what it loses.
func facts(e *events.Ending) []string {
	v := &e.Evidence
	var all []string
	count := func(n uint64, unit string) {
		if n > 0 {
			all = append(all, events.Grouped(n)+" "+unit)
		}
	}
	count(uint64(v.UnreadBytes), "B unread")
	count(uint64(v.UnsentBytes), "B unsent")
	count(uint64(v.UnackedBytes), "B not acknowledged")
	if e.Path == events.AppCloseShared {
		all = append(all, "the socket stays open")
	}
	if v.LingerOn && v.Linger == 0 {
		all = append(all, "SO_LINGER {1,0}")
	}
	if v.FINUnsent {
		all = append(all, "FIN queued, not sent yet")
	}
	if v.Probes > 0 {
		all = append(all, events.Quantity(uint64(v.Probes), "probe", "probes")+" unanswered")
	}
	if v.Retransmits > 0 {
		all = append(all, events.Quantity(uint64(v.Retransmits), "retransmission", "retransmissions")+" unanswered")
	}
	if v.ICMP != "" {
		all = append(all, v.ICMP)
	}
	return all
}
