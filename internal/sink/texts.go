package sink

import (
	"cmp"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink/table"
)

// text is a text as it is shown.
type text struct {
	shown string
	width int // in cells of the terminal
}

// cut shortens a text to width cells of the terminal; 0 means no limit.
func (t *texts) cut(long text, width int) text {
	if width == 0 || long.width <= width {
		return long
	}
	if t.ascii {
		return text{long.shown[:width-1] + "~", width}
	}
	shown := table.Cut(long.shown, width)
	return text{shown, table.Width(shown)}
}

// texts remembers how recent texts are shown: most of them come again with the next rows.
type texts struct {
	ascii       bool
	say         func(string) string // the language of sentences
	second      int64               // of untilSecond, since the epoch
	untilSecond []byte              // the time of day up to the second
	addresses   events.Addresses
	foreign     *memo[string, text] // by what others chose: it is made printable
	own         *memo[string, text] // by what is printable
	causes      *memo[string, text] // by the English cause
}

// asIs says a sentence in English, as it is.
func asIs(text string) string { return text }

func newTexts(ascii bool, say func(string) string) *texts {
	if say == nil {
		say = asIs
	}
	own := func(s string) text { return text{s, table.Width(s)} }
	if ascii {
		own = func(s string) text {
			s = ASCII(s)
			return text{s, len(s)}
		}
	}
	return &texts{
		ascii: ascii, say: say,
		causes:  newMemo(func(s string) text { return own(foreign(say(s))) }),
		foreign: newMemo(func(s string) text { return own(foreign(s)) }),
		own:     newMemo(own),
	}
}

// appendTime appends the local time of day, to the millisecond.
func (t *texts) appendTime(b []byte, when time.Time) []byte {
	if second := when.Unix(); second != t.second || t.untilSecond == nil {
		t.second, t.untilSecond = second, when.Local().AppendFormat(t.untilSecond[:0], "15:04:05.")
	}
	ms := when.Nanosecond() / 1e6
	return append(append(b, t.untilSecond...), '0'+byte(ms/100), '0'+byte(ms/10%10), '0'+byte(ms%10))
}

func (t *texts) title(e *events.Ending) text { return t.foreign.get(titleOf(e)) }

// titleOf returns the title of an ending, or its path if it has none.
func titleOf(e *events.Ending) string { return cmp.Or(e.Title, string(e.Path)) }

// comm returns the name of the process, "kernel" if no process made a call and none is known to hold the socket.
func (t *texts) comm(e *events.Ending) text {
	if task := who(e); task != nil {
		return t.foreign.get(task.Name())
	}
	return t.own.get("kernel")
}
