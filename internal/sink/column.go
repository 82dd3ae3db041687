package sink

import (
	"cmp"
	"strconv"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// column is one column of the table.
type column struct {
	head  string
	width int // where nothing limits the table
	least int // its width on the narrowest terminal
	// cell appends the cell of e in at most width cells; 0 is without limit. It
	// appends because it is on the way of every ending.
	cell func(b []byte, e *events.Ending, width int) []byte
}

// pathHead is the head of the column that is painted.
const pathHead = "PATH"

// absent stands where a column has nothing to say, so that every row has the
// same number of fields.
const absent = "-"

func foreign(s string) string { return cmp.Or(printable(s), absent) }

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// narrowColumns are those of every table, without the last, WHY.
func narrowColumns(k *known) []column {
	return []column{
		{"TIME", 12, 12, func(b []byte, e *events.Ending, _ int) []byte { return k.appendTime(b, e.Time) }},
		{"PID", 7, 7, func(b []byte, e *events.Ending, _ int) []byte { return appendPID(b, e) }},
		text("COMM", 15, 8, k.comm),
		{"LOCAL", 21, 6, func(b []byte, e *events.Ending, width int) []byte {
			return appendAddress(b, e.Local, width, &k.addresses)
		}},
		{"REMOTE", 21, 17, func(b []byte, e *events.Ending, width int) []byte {
			return appendAddress(b, e.Remote, width, &k.addresses)
		}},
		words(pathHead, 20, 15, k.title),
	}
}

// words is a column of text that is never cut, text one of text that may be.
func words(head string, width, least int, of func(*events.Ending) string) column {
	return column{head, width, least, func(b []byte, e *events.Ending, _ int) []byte { return append(b, of(e)...) }}
}

func text(head string, width, least int, of func(*events.Ending) string) column {
	return column{head, width, least, func(b []byte, e *events.Ending, width int) []byte { return append(b, cut(of(e), width)...) }}
}

// wideColumns stand between PATH and WHY of a wide table, which has no limit.
func wideColumns() []column {
	count := func(head string, width int, of func(*events.Ending) uint64) column {
		return column{head, width, 0, func(b []byte, e *events.Ending, _ int) []byte { return strconv.AppendUint(b, of(e), 10) }}
	}
	return []column{
		words("SLUG", 24, 0, func(e *events.Ending) string { return foreign(string(e.Path)) }),
		words("OWNER", 23, 0, owner),
		words("CGROUP", 20, 0, func(e *events.Ending) string { return foreign(cgroup(e)) }),
		words("TRIGGER", 10, 0, trigger),
		words("STATES", 22, 0, states),
		count("UNREAD", 8, func(e *events.Ending) uint64 { return uint64(e.Evidence.UnreadBytes) }),
		count("UNSENT", 8, func(e *events.Ending) uint64 { return uint64(e.Evidence.UnsentBytes) }),
		count("UNACKED", 8, func(e *events.Ending) uint64 { return uint64(e.Evidence.UnackedBytes) }),
		count("SENT", 8, func(e *events.Ending) uint64 { return e.Evidence.BytesSent }),
		count("RECV", 8, func(e *events.Ending) uint64 { return e.Evidence.BytesReceived }),
		count("NETNS", 10, func(e *events.Ending) uint64 { return uint64(e.Netns) }),
		words("TOOK", 9, 0, func(e *events.Ending) string { return took(e.DurationNS) }),
		words("KERNEL REASON", 20, 0, func(e *events.Ending) string { return foreign(e.KernelReason) }),
		words("CONF", 8, 0, (*events.Ending).Confidence),
	}
}

// whyColumn is the last one of every table.
func whyColumn(k *known) column {
	return words("WHY", 0, 0, func(e *events.Ending) string { return k.foreign(e.Cause) })
}

// who is the process that PID and COMM show: whose call it was or, where it is
// nobody's call, whose socket it is. A wide table tells them apart by OWNER.
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

// owner is the process that holds the socket, where it was not its call.
func owner(e *events.Ending) string {
	if e.Owner == nil {
		return absent
	}
	return foreign(e.Owner.Comm) + "[" + number(uint64(e.Owner.PID)) + "]"
}

// cgroup is in short where the socket belongs: a container, a systemd unit, or
// else the path.
func cgroup(e *events.Ending) string {
	c := events.ContainerOf(e.Cgroup)
	switch {
	case c.ID != "":
		name := c.ID[:min(len(c.ID), shortID)]
		if e.ContainerNames != nil {
			name = cmp.Or(e.ContainerNames.String(), name)
		}
		return cmp.Or(c.Runtime, "container") + ":" + name
	case c.Unit != "":
		return c.Unit
	}
	return e.Cgroup
}

// shortID is how much of a container's id its runtime shows.
const shortID = 12

func trigger(e *events.Ending) string {
	if e.Signal != 0 {
		return foreign(string(e.Trigger)) + ":" + strconv.Itoa(e.Signal)
	}
	return foreign(string(e.Trigger))
}

func states(e *events.Ending) string {
	return cmp.Or(e.Before.String(), absent) + "→" + cmp.Or(e.After.String(), absent)
}

// took is a duration to three digits or so, or absent where the return of the
// call was not seen.
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
