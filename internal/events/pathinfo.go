package events

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// PathInfo is what is known about a path itself: a row of the table of paths. The methods of [Ending] apply it to an
// ending.
type PathInfo struct {
	Path Path
	// Title is the path in a few words, for the PATH column. A rule of internal/classify may give another one:
	// [Ending.Title] is that of an ending.
	Title    string
	Harmless Harmless
	Abnormal Abnormality
	// Silent: a connection, or an attempt to make one, ends and the peer is not notified.
	Silent bool
	// Counters are the audited kernel counters that an ending of this path moves, by one each.
	Counters []Move
	// Reasons are those that the kernel may give for the RST of this path.
	Reasons []Reason
}

// Harmless says whether a path loses no data that anybody needs. "depends" is for the explanation of the path to
// resolve.
type Harmless string

// The values of [Harmless].
const (
	Yes     Harmless = "yes"
	No      Harmless = "no"
	Depends Harmless = "depends"
)

// Abnormality says why every ending of a path is abnormal, unless [Ending.Harmless] excuses it.
type Abnormality uint8

// The abnormalities. Those without a text make no ending abnormal by themselves.
const (
	ByFacts           Abnormality = iota // the facts of the ending decide: see [Ending.IsAbnormal]
	Never                                // not even by a RST: it answers a segment that belongs to no connection
	Terminated                           // the peer or the network ended it
	Aborted                              // this kernel ended it
	NotAcknowledged                      // close(2) waited for an acknowledgment and did not get it
	HandshakesDropped                    // of a listener that was closed
	CallFailed                           // a write without a connection
)

// abnormalities are the reasons that make an ending abnormal, as docs/filters.md lists them. The empty ones are in
// abnormalFacts.
var abnormalities = [...]string{
	Terminated:        "a RST or an ICMP error ended the connection",
	Aborted:           "a timer, a lack of resources or an administrator ended the connection",
	NotAcknowledged:   "close(2) with SO_LINGER returned before the peer had acknowledged everything",
	HandshakesDropped: "handshakes in progress were dropped",
	CallFailed:        "the call failed",
}

// abnormalFacts are the facts that make an ending of any path abnormal, but for those with [Never].
var abnormalFacts = []struct {
	reason string
	holds  func(*Ending) bool
}{
	{"a RST was sent", func(e *Ending) bool { return e.RST }},
	{"close(2) or connect(AF_UNSPEC) discarded received bytes that were not read", func(e *Ending) bool {
		return e.Evidence.UnreadBytes > 0 && (e.Path.Family() == "close" || e.Path.Family() == "disconnect")
	}},
	{"a signal killed the process while the connection was open", func(e *Ending) bool {
		return e.Trigger == TriggerSignal && (e.Before == Established || e.Before == CloseWait)
	}},
	{
		"a request got no answer: nothing was ever sent, and the process ended or closed within a second of the last byte",
		isRequestDropped,
	},
	{"the application gave up connecting after the SYN was retransmitted", func(e *Ending) bool {
		return e.Path == CloseSilentSynSent && e.Evidence.Retransmits > 0
	}},
	{abnormalities[CallFailed], func(e *Ending) bool { return e.Evidence.Errno != 0 }},
}

// isRequestDropped reports whether the request of a peer that began the connection got no answer. A server of a one-way
// protocol, such as syslog over TCP, never sends a byte either; it closes first after an idle time.
func isRequestDropped(e *Ending) bool {
	if !e.Evidence.Unanswered || e.Evidence.BytesSent > 0 {
		return false
	}
	switch e.Trigger {
	case TriggerExit, TriggerSignal, TriggerExecve:
		return true
	}
	return e.Evidence.LastReceived <= time.Second
}

// AbnormalReasons returns the reasons that make an ending abnormal, each once.
func AbnormalReasons() []string {
	var reasons []string
	for _, f := range abnormalFacts {
		reasons = append(reasons, f.reason)
	}
	for _, text := range abnormalities {
		if text != "" && !slices.Contains(reasons, text) {
			reasons = append(reasons, text)
		}
	}
	return reasons
}

// IsAbnormal reports whether an ending loses data, or is an error to an application. A RST that loses nothing
// ([Ending.Harmless]) is not.
func (e *Ending) IsAbnormal() bool {
	abnormal := e.Path.Info().Abnormal
	if e.Harmless || abnormal == Never {
		return false
	}
	if abnormal != ByFacts {
		return true
	}
	return e.hasOddFact() && e.hasAbnormalFact()
}

// hasOddFact reports whether an ending has what an abnormal fact needs. Most have nothing of it, and each line asks
// several times.
func (e *Ending) hasOddFact() bool {
	v := &e.Evidence
	return e.RST || e.Trigger == TriggerSignal || v.Unanswered || v.UnreadBytes|v.Retransmits != 0 || v.Errno != 0
}

// hasAbnormalFact reports whether one of the abnormal facts holds.
func (e *Ending) hasAbnormalFact() bool {
	for i := range abnormalFacts {
		if abnormalFacts[i].holds(e) {
			return true
		}
	}
	return false
}

// Severity is how much attention an ending deserves.
type Severity uint8

// The severities, as docs/terminal.md describes them.
const (
	Plain   Severity = iota // normal
	Notable                 // abnormal without a RST, or the peer is not notified
	Severe                  // abnormal with a RST, sent or received
)

// Severity returns the severity of an ending. The close of a socket in CLOSE ends no connection, so it is not silent.
func (e *Ending) Severity() Severity {
	switch abnormal := e.IsAbnormal(); {
	case abnormal && e.HasRST():
		return Severe
	case abnormal || e.isSilent():
		return Notable
	}
	return Plain
}

func (e *Ending) isSilent() bool { return e.Before != Close && e.Path.Info().Silent }

// Attention is the severity of an ending as a word for programs: error is abnormal (the rule of --errors), notice is a
// RST that loses nothing, or an ending of which the peer is not notified, ok is everything else.
func (e *Ending) Attention() string {
	switch {
	case e.IsAbnormal():
		return "error"
	case e.HasRST() || e.isSilent():
		return "notice"
	}
	return "ok"
}

// HasNoEffect reports whether an ending changed nothing that a peer or an application could notice: the close of a
// socket that had no connection, or whose connection had ended before, which was reported then; or a call on a socket
// without addresses. An abnormal ending has an effect.
func (e *Ending) HasNoEffect() bool {
	var closedLater bool
	if strings.HasPrefix(string(e.Path), string(CloseSilentClosed)+".") {
		closedLater = e.Earlier != nil || e.Path == ClosedNever
	}
	return (closedLater || isUnbound(e.Local) && isUnbound(e.Remote)) && e.Severity() == Plain
}

func isUnbound(a netip.AddrPort) bool {
	return a.Port() == 0 && a.IsValid() && a.Addr().Unmap().IsUnspecified()
}

// ReceivedRST reports whether the ending is a received RST. Whether one was sent is [Ending.RST].
func (e *Ending) ReceivedRST() bool { return e.Path == RecvRST }

// HasRST reports whether a RST was sent or received.
func (e *Ending) HasRST() bool { return e.RST || e.ReceivedRST() }

// HasFIN reports whether a FIN was queued or received.
func (e *Ending) HasFIN() bool { return e.FIN || e.Path == RecvFIN }

// Reason is a name of enum sk_rst_reason without its prefix, and the first Linux version that gives it for a path.
type Reason struct{ Name, Since string }

func since(version string, names ...string) []Reason {
	var reasons []Reason
	for _, name := range names {
		reasons = append(reasons, Reason{name, version})
	}
	return reasons
}

// Info returns the row of a path. An unknown path has a row without properties. An ending needs its row several times,
// so most paths are found without a map.
func (p Path) Info() *PathInfo {
	if info := bySlot[p.slot()]; info != nil && info.Path == p {
		return info
	}
	if info, ok := byPath[p]; ok {
		return info
	}
	return &unknownPath
}

// slot is the place of a path in bySlot.
func (p Path) slot() uint {
	n := len(p)
	if n == 0 {
		return 0
	}
	return (uint(n)*37 + uint(p[n-1])*101 + uint(p[n/2])*5 + uint(p[n/3])*13) % slots
}

// slots is a power of two that leaves few paths to share one.
const slots = 1 << 10

// bySlot has one path for each slot, the first in paths.
var bySlot = func() (rows [slots]*PathInfo) {
	for i := range paths {
		if slot := paths[i].Path.slot(); rows[slot] == nil {
			rows[slot] = &paths[i]
		}
	}
	return rows
}()

var unknownPath PathInfo

var byPath = func() map[Path]*PathInfo {
	rows := make(map[Path]*PathInfo, len(paths))
	for i := range paths {
		rows[paths[i].Path] = &paths[i]
	}
	return rows
}()

// Paths returns all paths, by family and within it by slug.
func Paths() []PathInfo { return slices.Clone(paths) }

// Families returns the families of paths, in the order of [Paths].
func Families() []string {
	var families []string
	for i := range paths {
		if f := paths[i].Path.Family(); !slices.Contains(families, f) {
			families = append(families, f)
		}
	}
	return families
}
