package why

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/ladder"
	"github.com/closetrace/closetrace/internal/logline"
)

// connection is the endings of one connection.
type connection struct {
	endings []*events.Ending // by time
	asked   bool             // has the error of the query
	away    int              // from the time of the query: see awayFrom
	cut     bool             // may lack endings that were seen and not kept
}

// connections returns the connections that match, the best first: those with the error of the query, then those that
// ended at its time, then the newest.
func (c *Collector) connections() []*connection {
	var all []*connection
	for _, endings := range c.pairs {
		all = append(all, split(endings)...)
	}
	for _, n := range all {
		n.asked = n.has(c.Query.Line.Errno)
		n.away = n.awayFrom(c.Query.Line.Time)
		n.cut = c.isCut()
	}
	slices.SortFunc(all, func(x, y *connection) int {
		if x.asked != y.asked {
			if x.asked {
				return -1
			}
			return 1
		}
		newer := y.last().Time.Compare(x.last().Time)
		return cmp.Or(cmp.Compare(x.away, y.away), newer, y.last().Local.Compare(x.last().Local))
	})
	return all
}

// lineTime is how long before or after a line was written its connection ended, at most. Most programs log no fractions
// of a second.
const lineTime = 3 * time.Second

// awayFrom returns how far the connection ended from a time, in seconds; 0 if there is none, and one number for all
// that are too far away.
func (n *connection) awayFrom(at time.Time) int {
	if at.IsZero() {
		return 0
	}
	nearest := lineTime
	for _, e := range n.endings {
		nearest = min(nearest, e.Time.Sub(at).Abs())
	}
	return int(nearest / time.Second)
}

// worth returns how much the endings of a pair are worth keeping, in the order of [Collector.connections]: for the
// error of the query, then for its time. Many have neither, which is worth 0.
func (q *Query) worth(endings []*events.Ending) int {
	n, worth := &connection{endings: endings}, 0
	hasError := func(n *connection) bool { return n.has(q.Line.Errno) }
	// Where one of several connections was reset, all of the pair together have no EOF.
	if q.Line.Errno != "" && (hasError(n) || slices.ContainsFunc(split(endings), hasError)) {
		worth = 1 + int(lineTime/time.Second)
	}
	if !q.Line.Time.IsZero() {
		worth += int(lineTime/time.Second) - n.awayFrom(q.Line.Time)
	}
	return worth
}

func (n *connection) last() *events.Ending { return n.endings[len(n.endings)-1] }

// has reports whether an application of the connection got an error. Any has none.
func (n *connection) has(errno string) bool {
	switch errno {
	case "":
		return true
	case logline.EOF:
		isReset := slices.ContainsFunc(n.endings, (*events.Ending).HasRST)
		return !isReset && slices.ContainsFunc(n.endings, (*events.Ending).HasFIN)
	}
	return slices.ContainsFunc(n.endings, func(e *events.Ending) bool {
		v := &e.Evidence
		return v.SockErr != 0 && ladder.Errno(v.SockErr) == errno || v.Errno != 0 && ladder.Errno(v.Errno) == errno ||
			errno == "EPIPE" && isFailedWrite(e)
	})
}

func isFailedWrite(e *events.Ending) bool {
	return e.Path.Family() == "app" && e.Path != events.AppCloseShared
}

// replyWindow is how long before the first ending of a connection attempt the RST may be that refused it.
const replyWindow = time.Second

// split returns the connections that had the addresses of the endings: one after the other, or in several network
// namespaces.
func split(endings []*events.Ending) []*connection {
	endings = slices.Clone(endings)
	slices.SortStableFunc(endings, func(x, y *events.Ending) int { return x.Time.Compare(y.Time) })
	var tracks []*track
	for _, e := range endings {
		to := trackOf(tracks, e)
		if to == nil {
			to = &track{reached: map[netip.AddrPort]*progress{}}
			if len(tracks) > 0 {
				to.endings = tracks[len(tracks)-1].takeRefusals(e)
			}
			tracks = append(tracks, to)
		}
		to.add(e)
	}
	var all []*connection
	for _, t := range tracks {
		if len(t.endings) > 0 {
			all = append(all, &t.connection)
		}
	}
	return all
}

// track is a connection while its endings are found.
type track struct {
	connection
	reached map[netip.AddrPort]*progress // by end
}

func (t *track) add(e *events.Ending) {
	t.endings = append(t.endings, e)
	t.reached[e.Local] = &progress{max(t.reached[e.Local].at(), e.Before.Stage(), e.After.Stage()), e}
}

// trackOf returns the connection of an ending, nil if it is a new one.
func trackOf(tracks []*track, e *events.Ending) *track {
	for _, t := range slices.Backward(tracks) {
		if !t.agrees(e) {
			continue
		}
		if t.reached[e.Local].isOver(e) {
			return nil
		}
		return t
	}
	return nil
}

// agrees reports whether the ends of a connection have the same sequence numbers, where they are known. Connections of
// several network namespaces may have the same addresses.
func (t *track) agrees(e *events.Ending) bool {
	other := t.reached[e.PeerAddr()]
	if other == nil || e.Local == e.PeerAddr() {
		return true
	}
	return near(e.Evidence.SndNxt, other.last.Evidence.RcvNxt) && near(e.Evidence.RcvNxt, other.last.Evidence.SndNxt)
}

// near reports whether two sequence numbers may be of one connection at about the same time.
func near(a, b uint32) bool { return a == 0 || b == 0 || a-b <= inFlight || b-a <= inFlight }

// progress is how far a connection had come at an end, by its last ending.
type progress struct {
	stage events.Stage
	last  *events.Ending
}

func (p *progress) at() events.Stage {
	if p == nil {
		return events.StageUnknown
	}
	return p.stage
}

const (
	// callTime is how long a call takes that ends an open connection, if that was not seen. The state that it met at its
	// begin may be another than the one that it acted in.
	callTime = time.Millisecond
	// inFlight is more than an end sends during a call, or has on its way. Of two connections, one in 128 is nearer.
	inFlight = 16 << 20
)

// isOver reports whether an ending is of another connection than those before it, since its state is one that they had
// left.
func (p *progress) isOver(e *events.Ending) bool {
	before := e.Before.Stage()
	if p == nil || before == events.StageUnknown || before >= p.stage {
		return false
	}
	call := time.Duration(p.last.DurationNS)
	if p.last.Before.Stage() < events.StageOver {
		call = max(call, callTime)
	}
	if e.Time.Sub(p.last.Time) > call {
		return true
	}
	return !near(e.Evidence.SndNxt, p.last.Evidence.SndNxt)
}

// takeRefusals removes and returns the RSTs at the end of a connection that answered the first segments of the next
// one.
func (n *connection) takeRefusals(first *events.Ending) []*events.Ending {
	from := len(n.endings)
	for from > 0 {
		e := n.endings[from-1]
		refuses := e.Path.Family() == "reply" && e.Earlier == nil && e.Before.Stage() == events.StageUnknown &&
			e.Local == first.PeerAddr() && first.Time.Sub(e.Time) < replyWindow
		if !refuses {
			break
		}
		from--
	}
	taken := slices.Clone(n.endings[from:])
	n.endings = n.endings[:from]
	return taken
}

// cause returns the ending that the others follow from: the first of the most severe ones that is not the consequence
// of another, or else the first one.
func (n *connection) cause() *events.Ending {
	var best *events.Ending
	for _, e := range n.endings {
		switch {
		case n.isConsequence(e):
		case best == nil || e.Severity() > best.Severity():
			best = e
		}
	}
	return cmp.Or(best, n.endings[0])
}

// isConsequence reports whether an ending follows from another one of the connection.
func (n *connection) isConsequence(e *events.Ending) bool {
	switch {
	case e.ReceivedRST():
		return slices.ContainsFunc(n.endings, func(x *events.Ending) bool { return x.RST && x.Local == e.PeerAddr() })
	case e.Path == events.AppWriteAfterReset, e.Before == events.Close && e.Path.Family() == "close":
		return e.Earlier != nil && slices.ContainsFunc(n.endings, func(x *events.Ending) bool {
			return x != e && x.Path == e.Earlier.Path && x.Local == e.Local
		})
	case e.Path == events.RecvFIN:
		return slices.ContainsFunc(n.endings, func(x *events.Ending) bool { return x.FIN && x.Local == e.PeerAddr() })
	}
	return false
}
