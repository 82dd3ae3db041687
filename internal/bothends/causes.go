package bothends

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// causes finds for the endings of pairs what the other end did that led to them.
func (m *matcher) causes() {
	for _, e := range m.ends {
		if e.other == nil {
			continue
		}
		for _, i := range e.endings {
			x := &m.j.endings[i]
			if x.cause < 0 && !x.hasPeer {
				x.cause = m.j.causeOf(x, e.other)
			}
			if x.cause >= 0 && x.received() {
				m.j.endings[x.cause].effect = i
			}
		}
	}
}

// causeOf returns which ending of the other end led to one: for a RST received, who sent it; for what answers a FIN,
// who sent that; for a timer, the last one before. -1: none.
func (j *Join) causeOf(x *ending, other *end) int32 {
	switch {
	case x.received():
		return j.senderOf(x, other)
	case x.isReply():
		return -1
	case x.finReceivedAt != 0:
		return j.lastBefore(x, other, func(y *ending) bool { return y.fin })
	case x.trigger == events.TriggerTimer:
		return j.lastBefore(x, other, func(*ending) bool { return true })
	}
	return -1
}

// senderOf returns which ending of the other end sent the RST that an ending received: by its number, if that is known
// on both sides, or else the last one before.
func (j *Join) senderOf(x *ending, other *end) int32 {
	byNumber := int32(-1)
	for _, i := range j.resetsOf(other) {
		y := &j.endings[i]
		number := y.sndNxt
		if y.isReply() {
			number = y.segmentAck
		}
		if number != 0 && number == x.segmentSeq {
			byNumber = i
		}
	}
	if byNumber >= 0 {
		return byNumber
	}
	return j.lastBefore(x, other, func(y *ending) bool { return y.rst })
}

// lastBefore returns the last ending of another end before one that fits, as far as the clocks can tell; -1: none.
func (j *Join) lastBefore(x *ending, other *end, fits func(*ending) bool) int32 {
	last := int32(-1)
	for _, i := range other.endings {
		y := &j.endings[i]
		if fits(y) && j.shown(y) <= j.shown(x)+j.tolerance(x, y) {
			last = i
		}
	}
	return last
}

// tolerance is by how much a cause may be after what it led to, because clocks are not exact.
func (j *Join) tolerance(x, y *ending) int64 {
	a, b := j.clocks[x.clock], j.clocks[y.clock]
	if !a.known || !b.known {
		return unmeasured
	}
	return int64(10*time.Millisecond) + 4*(a.found.spread+b.found.spread)
}

// explain adds to an ending its cause on another host.
func (r *Result) explain(e *events.Ending, x, cause *ending) {
	host := r.j.clocks[cause.clock].host
	ago := r.j.shown(x) - r.j.shown(cause)
	e.Peer = &events.Past{Path: cause.path, AgoNS: uint64(max(0, ago)), Actor: cause.actor, Host: host}
	if ago < 0 {
		r.late[e.Peer] = time.Unix(0, r.j.shown(cause)+1)
	}
	text := e.Cause + "; host " + host.Label + ": " + did(cause)
	if r.j.isExact(x, cause) {
		text += " " + span(ago, r.j.spread(x, cause)) + " before"
	}
	e.Cause = text
}

// appendEffect adds to the cause of an ending which process received its RST on another host.
func (j *Join) appendEffect(text string, x, effect *ending) string {
	text += "; host " + j.clocks[effect.clock].host.Label + ": RST received"
	if t := cmp.Or(effect.owner, effect.actor); t != nil {
		text += " by " + task(t)
	}
	if j.isExact(x, effect) {
		text += " " + span(j.shown(effect)-j.shown(x), j.spread(x, effect)) + " later"
	}
	return text
}

// leastSamples is how many samples show how exact an offset is. Of one alone, the way of its segment is a part.
const leastSamples = 3

// isExact reports whether the time between two endings of different hosts is known.
func (j *Join) isExact(x, y *ending) bool {
	for _, c := range []*clock{j.clocks[x.clock], j.clocks[y.clock]} {
		if c.index != 0 && c.found.samples < leastSamples {
			return false
		}
	}
	return true
}

// spread returns how exactly the time between two endings of different hosts is known.
func (j *Join) spread(x, y *ending) int64 {
	return j.clocks[x.clock].found.spread + j.clocks[y.clock].found.spread
}

// span returns a time, rounded for reading, as exactly as it is known.
func span(ns, spread int64) string {
	if ns <= spread {
		return "less than " + duration(max(ns, 0)+max(spread, int64(time.Microsecond)))
	}
	return duration(ns)
}

// duration returns a duration with one decimal or none.
func duration(ns int64) string {
	d := time.Duration(ns)
	switch {
	case d >= 2*time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d >= 100*time.Microsecond:
		return strconv.FormatFloat(float64(d.Microseconds())/1e3, 'f', 1, 64) + " ms"
	}
	return strconv.FormatInt(d.Microseconds(), 10) + " µs"
}

func task(t *events.Task) string { return t.Name() + "[" + strconv.FormatUint(uint64(t.PID), 10) + "]" }

// did returns what an ending was: nginx[4211] closed with 148 B unread.
func did(x *ending) string {
	var b strings.Builder
	what := acts[x.trigger]
	switch {
	case x.path == events.ReplyNetfilter:
		return "netfilter's REJECT in " + cmp.Or(x.hook, "a hook")
	case x.actor == nil || what == "":
		b.WriteString(string(x.path))
		if t := cmp.Or(x.owner, x.actor); t != nil {
			b.WriteString(" of " + task(t))
		}
		return b.String()
	}
	b.WriteString(task(x.actor) + " " + what)
	if x.trigger == events.TriggerSignal {
		b.WriteString(cmp.Or(events.SignalName(x.signal), "signal "+strconv.Itoa(x.signal)))
	}
	switch {
	case x.rst && x.unread > 0:
		b.WriteString(" with " + events.Grouped(uint64(x.unread)) + " B unread")
	case x.rst && x.linger0:
		b.WriteString(" with SO_LINGER {1,0}")
	default:
		b.WriteString(" (" + string(x.path) + ")")
	}
	return b.String()
}

// acts are what a process did that set off an ending.
var acts = map[events.Trigger]string{
	events.TriggerClose: "closed", events.TriggerShutdown: "called shutdown(2)", events.TriggerExit: "exited",
	events.TriggerSignal: "was killed by ", events.TriggerExecve: "called execve(2)", events.TriggerDup2: "called dup2(2)",
	events.TriggerIOUring: "closed by io_uring", events.TriggerLastReference: "released the last reference",
	events.TriggerConnect: "called connect(AF_UNSPEC)", events.TriggerWrite: "called send(2)",
}
