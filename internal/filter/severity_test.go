package filter

import (
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

func TestSeverity(t *testing.T) {
	for name, tt := range map[string]struct {
		e    events.Ending
		want Severity
	}{
		"a RST sent":                {events.Ending{Path: "close.rst.unread", RST: true}, Severe},
		"a RST received":            {events.Ending{Path: "recv.rst"}, Severe},
		"a harmless RST":            {events.Ending{Path: "close.rst.linger2-late", RST: true, Harmless: true}, Plain},
		"the answer to a stray":     {events.Ending{Path: "reply.embryonic", RST: true}, Plain},
		"given up, nothing is sent": {events.Ending{Path: "abort.user-timeout"}, Notable},
		"given up with a RST":       {events.Ending{Path: "abort.keepalive", RST: true}, Severe},
		"an ICMP error":             {events.Ending{Path: "recv.icmp"}, Notable},
		"silent":                    {events.Ending{Path: "close.silent.linger0", Before: events.SynSent}, Notable},
		"silent, by connect(2)":     {events.Ending{Path: "disconnect.silent", Before: events.SynSent}, Notable},
		"nothing to end":            {events.Ending{Path: "disconnect.silent", Before: events.Close}, Plain},
		"it had ended before":       {events.Ending{Path: "close.silent.closed.reset", Before: events.Close}, Plain},
		"a FIN":                     {events.Ending{Path: "close.fin.active", FIN: true}, Plain},
	} {
		if got := SeverityOf(&tt.e); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}
