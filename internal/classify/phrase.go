package classify

import (
	"strconv"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// phrase is the cause of an ending while it is built, numbers first. Its methods
// append, because it is built for every ending.
type phrase []byte

func (p phrase) text(s string) phrase { return append(p, s...) }

// number appends n with a comma between thousands.
func (p phrase) number(n uint64) phrase {
	digits := strconv.AppendUint(nil, n, 10)
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			p = append(p, ',')
		}
		p = append(p, d)
	}
	return p
}

// task appends the process as name[pid], or the kernel if there is no task.
func (p phrase) task(t *events.Task) phrase {
	if t == nil {
		return p.text("the kernel")
	}
	p = p.text(t.Name()).text("[")
	return phrase(events.AppendNumber(p, uint64(t.PID))).text("]")
}

// bytes appends "n B".
func (p phrase) bytes(n uint64) phrase { return p.number(n).text(" B") }

// count appends "1 connection" or "2 connections".
func (p phrase) count(n uint64, noun string) phrase {
	p = p.number(n).text(" ").text(noun)
	if n != 1 {
		p = p.text("s")
	}
	return p
}

// duration appends a duration rounded for reading: 1.5 s, 40 ms, 7 µs.
func (p phrase) duration(d time.Duration) phrase {
	switch {
	case d >= time.Second:
		return append(strconv.AppendFloat(p, d.Seconds(), 'f', 1, 64), " s"...)
	case d >= time.Millisecond:
		return append(strconv.AppendInt(p, d.Milliseconds(), 10), " ms"...)
	default:
		return append(strconv.AppendInt(p, d.Microseconds(), 10), " µs"...)
	}
}

// milliseconds appends a duration.
func (p phrase) milliseconds(ms uint32) phrase {
	return p.duration(time.Duration(ms) * time.Millisecond)
}

// state appends a state.
func (p phrase) state(s events.State) phrase { return p.text(s.String()) }

// states appends a change of state.
func (p phrase) states(from, to events.State) phrase {
	if int(from) < len(changes) && int(to) < len(changes) {
		return p.text(changes[from][to])
	}
	return p.state(from).text(" → ").state(to)
}

// changes are the texts of all changes of state.
var changes = func() (all [events.BoundInactive + 1][events.BoundInactive + 1]string) {
	for from := range all {
		for to := range all {
			all[from][to] = events.State(from).String() + " → " + events.State(to).String()
		}
	}
	return all
}()

// discarded appends how much output a RST discards, if any.
func (p phrase) discarded(ev *events.Event) phrase {
	if n := uint64(ev.UnsentBytes) + uint64(ev.UnackedBytes); n > 0 {
		p = p.text("; ").bytes(n).text(" of unacknowledged output discarded")
	}
	return p
}

// queuedFIN appends what a FIN waits for that was not sent yet.
func (p phrase) queuedFIN(ev *events.Event) phrase {
	switch ev.UnsentLeft {
	case 0:
	case 1:
		return p.text("; FIN queued, held back by the window or by pacing")
	default:
		return p.text("; FIN queued behind ").bytes(uint64(ev.UnsentLeft) - 1).text(" of unsent output")
	}
	if ev.UnackedBytes > 0 {
		p = p.text("; ").bytes(uint64(ev.UnackedBytes)).text(" in flight")
	}
	return p
}
