package sink

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// column is one column of the table.
type column struct {
	head  string
	width int // at first
	most  int // up to which it grows with its cells
	// fill sets the cell of e on a terminal of so many cells; 0 means no limit. It reuses the memory of the cell, because
	// it runs for every ending.
	fill func(c *cell, e *events.Ending, terminal int)
}

// cell is the text of one column in one row.
type cell struct {
	text  []byte
	width int // in cells of the terminal
}

// ascii sets the text, one cell of the terminal per byte.
func (c *cell) ascii(text []byte) { c.text, c.width = text, len(text) }

func (c *cell) set(t text) { c.text, c.width = append(c.text[:0], t.shown...), t.width }

// The heads of columns: LOCAL, which is only a port on a narrow terminal, and PATH, which is painted.
const (
	localHead = "LOCAL"
	pathHead  = "PATH"
)

// columnOf returns the index of a column.
func columnOf(columns []column, head string) int {
	return slices.IndexFunc(columns, func(c column) bool { return c.head == head })
}

// longestHost is up to how many cells the column of hosts is wide. A longer name moves the rest of its row.
const longestHost = 15

// hostColumn returns the column of hosts, in a table of several.
func hostColumn(t *texts, width int) column {
	return words("HOST", width, width, func(e *events.Ending) text {
		if e.Host == nil {
			return t.own.get(absent)
		}
		return t.foreign.get(e.Host.Label)
	})
}

// addressWidth is that of the longest IPv4 address. A column does not grow to the width of an IPv6 address, which moves
// the rest of its row.
const addressWidth = len("255.255.255.255:65535")

// absent stands where a column has nothing to say, so that every row has the same number of fields.
const absent = "-"

func foreign(s string) string { return cmp.Or(printable(s), absent) }

// narrowColumns returns those of every table, without the last, WHY.
func narrowColumns(t *texts) []column {
	return []column{
		{"TIME", 12, 12, func(c *cell, e *events.Ending, _ int) { c.ascii(t.appendTime(c.text[:0], e.Time)) }},
		{"PID", 5, 7, func(c *cell, e *events.Ending, _ int) { c.ascii(appendPID(c.text[:0], e)) }},
		{"COMM", 7, 15, func(c *cell, e *events.Ending, terminal int) { c.set(t.cut(t.comm(e), commWidth(terminal))) }},
		{localHead, 15, addressWidth, func(c *cell, e *events.Ending, terminal int) {
			c.ascii(appendAddress(c.text[:0], e.Local, terminal > 0 && terminal <= portsOnly, &t.addresses))
		}},
		{"REMOTE", 15, addressWidth, func(c *cell, e *events.Ending, _ int) {
			c.ascii(appendAddress(c.text[:0], e.Remote, false, &t.addresses))
		}},
		words(pathHead, 13, 20, t.title),
	}
}

// commWidth returns up to how many cells a name is not cut; 0 means no limit.
func commWidth(terminal int) int {
	switch {
	case terminal == 0:
		return 0
	case terminal < 100:
		return 10
	}
	return 15
}

// words returns a column of text that is never cut.
func words(head string, width, most int, of func(*events.Ending) text) column {
	return column{head, width, most, func(c *cell, e *events.Ending, _ int) { c.set(of(e)) }}
}

// wideColumns returns those between PATH and WHY of a wide table, which has no limit.
func wideColumns(t *texts) []column {
	count := func(head string, width int, of func(*events.Ending) uint64) column {
		return column{head, width, width, func(c *cell, e *events.Ending, _ int) {
			c.ascii(events.AppendNumber(c.text[:0], of(e)))
		}}
	}
	foreign := func(head string, width int, of func(*events.Ending) string) column {
		return words(head, width, width, func(e *events.Ending) text { return t.foreign.get(of(e)) })
	}
	own := func(head string, width int, of func(*events.Ending) string) column {
		return words(head, width, width, func(e *events.Ending) text { return t.own.get(of(e)) })
	}
	return []column{
		foreign("SLUG", 24, func(e *events.Ending) string { return string(e.Path) }),
		own("OWNER", 23, owner),
		foreign("THREAD", 15, thread),
		foreign("CGROUP", 20, cgroup),
		own("TRIGGER", 10, trigger),
		own("STATES", 22, states),
		count("UNREAD", 8, func(e *events.Ending) uint64 { return uint64(e.Evidence.UnreadBytes) }),
		count("UNSENT", 8, func(e *events.Ending) uint64 { return uint64(e.Evidence.UnsentBytes) }),
		count("UNACKED", 8, func(e *events.Ending) uint64 { return uint64(e.Evidence.UnackedBytes) }),
		count("SENT", 8, func(e *events.Ending) uint64 { return e.Evidence.BytesSent }),
		count("RECV", 8, func(e *events.Ending) uint64 { return e.Evidence.BytesReceived }),
		count("NETNS", 10, func(e *events.Ending) uint64 { return uint64(e.Netns) }),
		own("TOOK", 9, func(e *events.Ending) string { return took(e.DurationNS) }),
		foreign("KERNEL REASON", 20, func(e *events.Ending) string { return e.KernelReason }),
		own("CONF", 8, (*events.Ending).Confidence),
	}
}

// whyColumn returns the last one of every table.
func whyColumn(t *texts) column {
	return words("WHY", 0, 0, func(e *events.Ending) text { return t.causes.get(e.Cause) })
}

// who returns the process that PID and COMM show: the one that made the call or, if no call did it, the one that holds
// the socket. A wide table distinguishes them by OWNER.
func who(e *events.Ending) *events.Task {
	if e.Actor != nil {
		return e.Actor
	}
	return e.Owner
}

func appendPID(b []byte, e *events.Ending) []byte {
	if t := who(e); t != nil {
		return events.AppendNumber(b, uint64(t.PID))
	}
	return append(b, absent...)
}

// owner returns the process that holds the socket, if another one or the kernel acted.
func owner(e *events.Ending) string {
	if e.Owner == nil {
		return absent
	}
	return foreign(e.Owner.Name()) + "[" + strconv.FormatUint(uint64(e.Owner.PID), 10) + "]"
}

// thread returns the name of the thread that made the call, if it differs from the name of the process.
func thread(e *events.Ending) string {
	if e.Actor == nil || e.Actor.Process == "" {
		return ""
	}
	return e.Actor.Comm
}

// cgroup returns in short where the socket belongs: a container, a systemd unit, or else the path of its cgroup.
func cgroup(e *events.Ending) string {
	return cmp.Or(e.Container(), events.ContainerOf(e.Cgroup).Unit, e.Cgroup)
}

func trigger(e *events.Ending) string {
	if e.Signal != 0 {
		return foreign(string(e.Trigger)) + ":" + strconv.Itoa(e.Signal)
	}
	return foreign(string(e.Trigger))
}

func states(e *events.Ending) string {
	return cmp.Or(e.Before.String(), absent) + "→" + cmp.Or(e.After.String(), absent)
}

// took returns a duration to about three digits, or absent if the return of the call was not seen.
func took(ns uint64) string {
	d := time.Duration(ns)
	switch {
	case d == 0:
		return absent
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(10 * time.Nanosecond).String()
}
