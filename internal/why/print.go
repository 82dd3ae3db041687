package why

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/ladder"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/sink/table"
)

// maxListed is how many other connections are listed.
const maxListed = 10

// Limits of the width of lines, in cells.
const (
	leastWidth   = 60
	usualWidth   = 80
	longestProse = 100
)

// Layout configures the answer.
type Layout struct {
	Width int  // of the terminal, in cells; 0: there is none
	ASCII bool // the terminal has no other characters
	// Language is that of the sentences.
	Language explain.Language
}

// Print returns the answer, "" if no connection matches.
func (c *Collector) Print(library *explain.Library, o Layout) string {
	all := c.connections()
	if len(all) == 0 {
		return ""
	}
	if o.Width == 0 {
		o.Width = usualWidth
	}
	o.Width = max(leastWidth, o.Width)
	o.Language = cmp.Or(o.Language, explain.English)
	plain := ladder.Layout{Width: o.Width, ASCII: o.ASCII, Say: o.Language.Say()}
	a := &answer{Layout: o, library: library, plain: plain}
	a.partial(c)
	a.choice(c, all)
	a.connection(all[0])
	a.others(c, all)
	return a.String()
}

// answer is the text of an answer.
type answer struct {
	strings.Builder
	Layout
	library *explain.Library
	plain   ladder.Layout
}

// line writes a sentence, in which others may have chosen names, wrapped.
func (a *answer) line(indent, text string) { a.said(indent, a.plain.Said(text)) }

// said writes text that is in the language of the reader.
func (a *answer) said(indent, text string) {
	width := min(a.Width, longestProse) - len(indent)
	for _, part := range table.Wrap(a.plain.Plain(sink.Tame(text)), width) {
		a.WriteString(indent + part + "\n")
	}
}

func (a *answer) head(text string) { a.WriteString("\n" + a.plain.Said(text) + "\n") }

const indent = "  "

// partial says that no connection has both of the ends that the text names.
func (a *answer) partial(c *Collector) {
	if c.isPartial() {
		a.line("", "No connection here has two of these addresses. This one has one of them:")
		a.WriteString("\n")
	}
}

// choice says which of several connections is shown.
func (a *answer) choice(c *Collector, all []*connection) {
	if len(all) == 1 {
		return
	}
	line, shown := &c.Query.Line, all[0]
	which := "This is the newest"
	if line.Errno != "" && shown.asked {
		which += " with " + line.Errno
	}
	if !line.Time.IsZero() && shown.away < int(lineTime/time.Second) {
		which += " at the time of the line"
	}
	count := fmt.Sprint(len(all))
	if c.notKept() > 0 {
		count = "More than " + count
	}
	a.line("", fmt.Sprintf("%s connections match. %s; the others are listed below.", count, which))
	a.WriteString("\n")
}

// connection writes the story of a connection.
func (a *answer) connection(n *connection) {
	root := n.cause()
	a.line("", fmt.Sprintf("%s and %s, %s", ladder.Address(root.Local), ladder.Address(root.PeerAddr()),
		n.endings[0].Time.Local().Format("2006-01-02 15:04:05.000 MST")))
	a.translated(n)
	drawn := a.plain
	drawn.NotKept = n.cut
	a.WriteString("\n" + ladder.New(n.endings).Text(drawn))
	a.applications(n)
	a.head("Why")
	for _, text := range n.reasons() {
		a.line(indent, text)
	}
	if advice := a.library.Advice(string(root.Path), a.explain()); advice != "" && n.isAbnormal() {
		a.WriteString("\n" + a.plain.Plain(advice))
	}
	a.missing(n)
	a.head("Next")
	a.WriteString("    closetrace explain " + string(root.Path) + "\n")
}

// translated says as what an end sees the other one, if that has another address.
func (a *answer) translated(n *connection) {
	seen := map[netip.AddrPort]bool{}
	for _, e := range n.endings {
		if e.PeerLocal.IsValid() && !seen[e.Local] {
			seen[e.Local] = true
			a.line("", fmt.Sprintf("Translated on the way: %s sees %s as %s.", ladder.Address(e.Local),
				ladder.Address(e.PeerLocal), ladder.Address(e.Remote)))
		}
	}
}

// explain returns the layout of texts of package explain.
func (a *answer) explain() explain.Layout {
	return explain.Layout{Language: a.Language, Width: a.Width}
}

// reasons returns the cause of a connection's end, and what is inferred.
func (n *connection) reasons() []string {
	root := n.cause()
	all := []string{sentence(root)}
	if text := sender(root); text != "" {
		all = append(all, text)
	}
	if !n.isAbnormal() {
		all = append(all, "Nothing abnormal was seen.")
	}
	for _, e := range n.endings {
		if e.Doubt != "" {
			all = append(all, fmt.Sprintf("Inferred (%s at %s): %s.", e.Path, ladder.Address(e.Local), e.Doubt))
		}
	}
	return all
}

// sentence returns the cause of a connection's end.
func sentence(root *events.Ending) string {
	if t := root.Actor; t != nil {
		return fmt.Sprintf("%s, %s: %s.", ladder.Task(t), ladder.Address(root.Local), root.Cause)
	}
	return fmt.Sprintf("%s, %s: %s.", ladder.Address(root.Local), cmp.Or(root.Title, string(root.Path)), root.Cause)
}

// sender says what the headers of a RST show of a sender that was not seen, "" if it was, or they were not.
func sender(root *events.Ending) string {
	rst := root.Evidence.RST
	if rst == nil || root.Peer != nil {
		return ""
	}
	options := cmp.Or(strings.Join(rst.Options.Names(), ", "), "none")
	return fmt.Sprintf("The RST: TTL %d, window %d, IP id %d, TCP options: %s.", rst.TTL, rst.Window, rst.IPID, options)
}

// end is what is known of an end.
type end struct {
	host    string // if the ladder has several
	address string
	process string   // empty: unknown
	gets    []string // what its application gets
	closed  string   // what took the socket from its application, empty if nothing did
	unseen  bool     // nothing of it was seen
	cut     bool     // what was seen of it may be among what was not kept
}

// name returns the address with the host and the process, if they are known.
func (e *end) name() string {
	name := strings.TrimPrefix(e.host+" "+e.address, " ")
	if e.process == "" {
		return name
	}
	return e.process + ", " + name
}

// ends returns what is known of the ends, that of the cause first.
func (n *connection) ends() (ends [2]end) {
	model, root := ladder.New(n.endings), n.cause()
	first := ladder.Left
	if model.Ends[ladder.Left].Name != ladder.Address(root.Local) {
		first = ladder.Right
	}
	for i, side := range []ladder.Side{first, first.Other()} {
		head := model.Ends[side]
		e := end{host: head.Host, address: head.Name, process: head.Process, unseen: head.Unseen, cut: n.cut}
		for _, step := range model.Steps {
			if act := step.Acts[side]; act.Got != "" {
				e.gets = append(e.gets, act.Got)
			}
			e.closed = cmp.Or(e.closed, step.Acts[side].Closed)
		}
		ends[i] = e
	}
	return ends
}

// applications writes what each application gets.
func (a *answer) applications(n *connection) {
	a.head("What each application gets")
	for _, e := range n.ends() {
		a.line(indent, e.String())
	}
}

// String returns what the application of the end gets.
func (e *end) String() string {
	switch {
	case e.unseen && e.cut:
		return e.name() + ": not kept."
	case e.unseen:
		return e.name() + ": not seen here."
	case len(e.gets) > 0:
		return e.name() + ": " + strings.Join(e.gets, ", then ") + "."
	case e.process == "":
		return e.name() + ": no application was seen."
	case e.closed != "":
		return e.name() + ": no error; " + e.closed + "."
	}
	return e.name() + ": no error."
}

// missing says which end was not seen, and how to see it.
func (a *answer) missing(n *connection) {
	other := n.ends()[1]
	if !other.unseen {
		return
	}
	root := n.cause()
	if other.cut {
		a.head("Not kept")
	} else {
		a.head("Not seen")
	}
	switch {
	case other.cut:
		a.line(indent, "The end "+other.name()+": more matches than is kept, and what was seen of this end may not be. "+
			"Name both ends of the connection.")
	case root.PeerAddr().Addr().Unmap().IsLoopback():
		a.line(indent, "The end "+other.name()+": it is on the same host, outside of the trace, or had ended before.")
	default:
		a.line(indent, "The end "+other.name()+": it is on another host, outside of the trace, or had ended before. "+
			"If it is on another host, record there (closetrace -w FILE), and run closetrace why --from FILE.")
	}
	if root.Path == events.CloseRSTLinger0 && root.Evidence.BytesSent|root.Evidence.BytesReceived == 0 {
		a.line(indent, "No byte was exchanged: the handshake may have been in progress at that end, and then its "+
			"application never had the connection.")
	}
	if text := a.library.Peer(string(root.Path), a.explain()); text != "" && root.Path.Family() != "recv" {
		a.WriteString("\n" + a.plain.Plain(text))
	}
}

// others lists the other connections that match.
func (a *answer) others(c *Collector, all []*connection) {
	dropped := c.notKept()
	if len(all) == 1 && dropped == 0 {
		return
	}
	a.head("Other connections that match")
	listed := all[1:min(len(all), 1+maxListed)]
	for _, n := range listed {
		root := n.cause()
		a.said(indent, fmt.Sprintf("%s  %s %s  %s: %s", n.endings[0].Time.Local().Format("15:04:05.000"),
			ladder.Address(root.Local), ladder.Address(root.Remote), root.Path, a.plain.Said(root.Cause)))
	}
	if more := len(all) - 1 - len(listed); more > 0 {
		a.line(indent, "and "+events.Quantity(uint64(more), "other", "others"))
	}
	if dropped > 0 {
		a.line(indent, events.Quantity(uint64(dropped), "other ending was", "other endings were")+" not kept.")
	}
}
