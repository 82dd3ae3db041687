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
	// text is the cell of e in at most width cells; 0 is without limit.
	text func(e *events.Ending, width int) string
}

// pathHead is the head of the column that is painted.
const pathHead = "PATH"

// absent stands where a column has nothing to say, so that every row has the
// same number of fields.
const absent = "-"

func foreign(s string) string { return cmp.Or(printable(s), absent) }

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// narrowColumns are those of every table, without the last, WHY.
func narrowColumns() []column {
	return []column{
		{"TIME", 12, 12, func(e *events.Ending, _ int) string { return e.Time.Local().Format("15:04:05.000") }},
		{"PID", 7, 7, func(e *events.Ending, _ int) string { return pid(e) }},
		{"COMM", 15, 8, func(e *events.Ending, width int) string { return cut(comm(e), width) }},
		{"LOCAL", 21, 6, func(e *events.Ending, width int) string { return address(e.Local, width) }},
		{"REMOTE", 21, 17, func(e *events.Ending, width int) string { return address(e.Remote, width) }},
		{pathHead, 20, 15, func(e *events.Ending, _ int) string { return title(e) }},
	}
}

// wideColumns stand between PATH and WHY of a wide table, which has no limit.
func wideColumns() []column {
	bytes := func(head string, of func(*events.Evidence) uint64) column {
		return column{head, 8, 0, func(e *events.Ending, _ int) string { return number(of(&e.Evidence)) }}
	}
	return []column{
		{"SLUG", 24, 0, func(e *events.Ending, _ int) string { return foreign(string(e.Path)) }},
		{"OWNER", 23, 0, func(e *events.Ending, _ int) string { return owner(e) }},
		{"CGROUP", 20, 0, func(e *events.Ending, _ int) string { return foreign(cgroup(e)) }},
		{"TRIGGER", 10, 0, func(e *events.Ending, _ int) string { return trigger(e) }},
		{"STATES", 22, 0, func(e *events.Ending, _ int) string { return states(e) }},
		bytes("UNREAD", func(v *events.Evidence) uint64 { return uint64(v.UnreadBytes) }),
		bytes("UNSENT", func(v *events.Evidence) uint64 { return uint64(v.UnsentBytes) }),
		bytes("UNACKED", func(v *events.Evidence) uint64 { return uint64(v.UnackedBytes) }),
		bytes("SENT", func(v *events.Evidence) uint64 { return v.BytesSent }),
		bytes("RECV", func(v *events.Evidence) uint64 { return v.BytesReceived }),
		{"NETNS", 10, 0, func(e *events.Ending, _ int) string { return number(uint64(e.Netns)) }},
		{"TOOK", 9, 0, func(e *events.Ending, _ int) string { return took(e.DurationNS) }},
		{"KERNEL REASON", 20, 0, func(e *events.Ending, _ int) string { return foreign(e.KernelReason) }},
		{"CONF", 8, 0, func(e *events.Ending, _ int) string { return e.Confidence() }},
	}
}

// whyColumn is the last one of every table.
func whyColumn() column {
	return column{"WHY", 0, 0, func(e *events.Ending, _ int) string { return foreign(e.Cause) }}
}

func title(e *events.Ending) string { return foreign(cmp.Or(e.Title, string(e.Path))) }

// who is the process that PID and COMM show: whose call it was or, where it is
// nobody's call, whose socket it is. A wide table tells them apart by OWNER.
func who(e *events.Ending) *events.Task {
	if e.Actor != nil {
		return e.Actor
	}
	return e.Owner
}

func pid(e *events.Ending) string {
	if t := who(e); t != nil {
		return number(uint64(t.PID))
	}
	return absent
}

// comm is the kernel's where it acted and nobody is known to hold the socket.
func comm(e *events.Ending) string {
	if t := who(e); t != nil {
		return foreign(t.Comm)
	}
	return "kernel"
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
		return cmp.Or(c.Runtime, "container") + ":" + c.ID[:min(len(c.ID), shortID)]
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
