package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/stuck"
)

// stuckOutput writes lists of stuck sockets.
type stuckOutput struct {
	to     io.Writer
	format format
	watch  bool
	source string
	lists  int
	before []stuck.Group // of the last list
}

func (o *stuckOutput) print(found []stuck.Finding) error {
	o.lists++
	if o.format == formatJSON {
		return o.json(found)
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	if o.watch {
		if o.lists > 1 {
			fmt.Fprintln(&text)
		}
		fmt.Fprintf(&text, "%s  %d sockets have not ended\n", time.Now().Format("15:04:05"), len(found))
	}
	if o.format == formatWide {
		everySocket(w, found)
	} else {
		o.groups(w, stuck.Groups(found))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(o.to, text.String())
	return err
}

// stuckLine is a socket of -o json.
type stuckLine struct {
	Schema int    `json:"schema_version"`
	Time   string `json:"time"`
	Source string `json:"source"`
	*stuck.Finding
}

func (o *stuckOutput) json(found []stuck.Finding) error {
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z07:00")
	for i := range found {
		if err := enc.Encode(stuckLine{events.SchemaVersion, now, o.source, &found[i]}); err != nil {
			return err
		}
	}
	_, err := io.WriteString(o.to, text.String())
	return err
}

// groups writes a line per group; when watching, also by how much it grew since the
// list before.
func (o *stuckOutput) groups(w io.Writer, now []stuck.Group) {
	all, growth := stuck.Growth(o.before, now)
	o.before = now
	head := "COUNT\t"
	if o.watch {
		head += "GROWTH\t"
	}
	fmt.Fprintln(w, head+"OLDEST\tSTATE\tPID\tCOMM\tSERVICE\tUNREAD\tUNSENT\tUNACKED\tDIAGNOSIS\tWHY, OF THE OLDEST")
	for i, g := range all {
		fmt.Fprintf(w, "%d\t", g.Count)
		if o.watch {
			by := "-"
			if o.lists > 1 {
				by = fmt.Sprintf("%+d", growth[i])
			}
			fmt.Fprintf(w, "%s\t", by)
		}
		pid, comm := "-", "-"
		if g.PID != 0 {
			pid, comm = strconv.Itoa(int(g.PID)), cmp.Or(tame(g.Comm), "-")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n",
			ageText(g.Oldest, g.Exact), g.State, pid, comm, g.Service, g.Unread, g.Unsent, g.Unacked, g.Diagnosis, tame(g.Why))
	}
}

// everySocket writes a line per socket.
func everySocket(w io.Writer, found []stuck.Finding) {
	fmt.Fprintln(w, "AGE\tSTATE\tLOCAL\tREMOTE\tHELD BY\tUNREAD\tEOF\tUNSENT\tUNACKED\tNETNS\tDIAGNOSIS\tWHY")
	for i := range found {
		f := &found[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%d\t%d\t%s\t%s\n",
			ageText(f.Age, f.Exact != nil), f.State, f.Local, f.Remote, heldBy(f.Holders), f.Unread, eofText(f.EOFRead), f.Unsent, f.Unacked,
			f.Netns, f.Diagnosis, tame(f.Why))
	}
}

// ageText is an age, or what is certain of it.
func ageText(age *stuck.Milliseconds, exact bool) string {
	if age == nil {
		return "-"
	}
	least := "≥"
	if exact {
		least = ""
	}
	unit := 100 * time.Millisecond
	if age.Duration() >= time.Minute {
		unit = time.Second
	}
	return least + age.Duration().Truncate(unit).String()
}

func eofText(read *bool) string {
	switch {
	case read == nil:
		return "-"
	case *read:
		return "read"
	}
	return "unread"
}

// heldBy writes comm[pid]:fd, or comm[pid/tid]:fd, of all who hold a socket, without blanks between.
func heldBy(holders []stuck.Holder) string {
	var words []string
	for _, h := range holders {
		var fds []string
		for _, fd := range h.FDs {
			fds = append(fds, strconv.Itoa(fd))
		}
		words = append(words, fmt.Sprintf("%s[%s]:%s", tame(h.Comm), h.ID(), strings.Join(fds, "+")))
	}
	return cmp.Or(strings.Join(words, ","), "-")
}

// tame is what a cell may hold: a process may be called anything.
func tame(s string) string { return sink.Tame(s) }
