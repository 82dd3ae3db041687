package sink

import (
	"cmp"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// known is what a table has written of late and will mostly write again.
type known struct {
	second      int64  // since the epoch, of the last ending
	untilSecond []byte // as written
	addresses   events.Addresses
	words       [32]struct{ raw, shown string } // some of the last, by length
}

// appendTime writes the time of day here.
func (k *known) appendTime(b []byte, t time.Time) []byte {
	if second := t.Unix(); second != k.second || k.untilSecond == nil {
		k.second, k.untilSecond = second, t.Local().AppendFormat(k.untilSecond[:0], "15:04:05.")
	}
	ms := t.Nanosecond() / 1e6
	return append(append(b, k.untilSecond...), '0'+byte(ms/100), '0'+byte(ms/10%10), '0'+byte(ms%10))
}

// foreign is how words of others are shown.
func (k *known) foreign(raw string) string {
	word := &k.words[len(raw)%len(k.words)]
	if word.shown == "" || word.raw != raw {
		word.raw, word.shown = raw, foreign(raw)
	}
	return word.shown
}

func (k *known) title(e *events.Ending) string { return k.foreign(cmp.Or(e.Title, string(e.Path))) }

// comm is the kernel's where it acted and nobody is known to hold the socket.
func (k *known) comm(e *events.Ending) string {
	if t := who(e); t != nil {
		return k.foreign(t.Comm)
	}
	return "kernel"
}
