package classify

import (
	"strconv"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// phrase builds the cause of an ending: words for people, numbers first. It
// appends because it runs for every ending.
type phrase []byte

func (p phrase) text(s string) phrase { return append(p, s...) }

// number writes n with a comma between thousands.
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

// task writes comm[pid].
func (p phrase) task(t *events.Task) phrase {
	if t == nil {
		return p.text("the kernel")
	}
	p = p.text(t.Comm).text("[")
	return phrase(strconv.AppendUint(p, uint64(t.PID), 10)).text("]")
}

// bytes writes n B.
func (p phrase) bytes(n uint64) phrase { return p.number(n).text(" B") }

// count writes "1 connection" or "2 connections".
func (p phrase) count(n uint64, noun string) phrase {
	p = p.number(n).text(" ").text(noun)
	if n != 1 {
		p = p.text("s")
	}
	return p
}

// took writes a duration with a precision that people read: 1.5 s, 40 ms, 7 µs.
func (p phrase) took(d time.Duration) phrase {
	switch {
	case d >= time.Second:
		return append(strconv.AppendFloat(p, d.Seconds(), 'f', 1, 64), " s"...)
	case d >= time.Millisecond:
		return append(strconv.AppendInt(p, d.Milliseconds(), 10), " ms"...)
	default:
		return append(strconv.AppendInt(p, d.Microseconds(), 10), " µs"...)
	}
}

func (p phrase) states(from, to events.State) phrase {
	return p.text(from.String()).text(" → ").text(to.String())
}

// lost adds what of our own output a reset throws away, if anything.
func (p phrase) lost(ev *events.Event) phrase {
	if n := uint64(ev.UnsentBytes) + uint64(ev.UnackedBytes); n > 0 {
		p = p.text("; ").bytes(n).text(" of our own output not acknowledged, discarded too")
	}
	return p
}

// pending adds what of our own output a FIN has to wait for, if anything.
func (p phrase) pending(ev *events.Event) phrase {
	switch ev.UnsentLeft {
	case 0:
	case 1:
		return p.text("; FIN queued, no window for it yet")
	default:
		return p.text("; FIN queued behind ").bytes(uint64(ev.UnsentLeft) - 1).text(" not sent yet")
	}
	if ev.UnackedBytes > 0 {
		p = p.text("; ").bytes(uint64(ev.UnackedBytes)).text(" still in flight")
	}
	return p
}
