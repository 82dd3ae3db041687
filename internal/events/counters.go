package events

import (
	"slices"
	"strings"
)

// Move is a kernel counter that an ending moves by one.
type Move struct {
	Counter Counter
	// If is the condition under which it moves, for people; empty if it always does.
	If   Condition
	when func(*Ending) bool
}

// Counter is one of the audited counters.
type Counter uint8

// The audited counters of a network namespace. All Linux versions since 4.19 have them.
const (
	OutRsts Counter = iota
	EstabResets
	AbortOnClose
	AbortOnData
	AbortOnLinger
	AbortOnTimeout
	AbortOnMemory

	Counters // how many there are
)

var counterNames = [Counters]string{
	OutRsts:        "TcpOutRsts",
	EstabResets:    "TcpEstabResets",
	AbortOnClose:   "TCPAbortOnClose",
	AbortOnData:    "TCPAbortOnData",
	AbortOnLinger:  "TCPAbortOnLinger",
	AbortOnTimeout: "TCPAbortOnTimeout",
	AbortOnMemory:  "TCPAbortOnMemory",
}

// AbortFailed counts the RSTs that TCP made and could not send. TcpOutRsts counts them as well. No ending moves it by
// itself.
const AbortFailed = "TCPAbortFailed"

// String returns nstat's name of the counter without "TcpExt".
func (c Counter) String() string { return counterNames[c] }

// CountedHooks returns those hooks without which a counter may move unexplained: the RSTs of netfilter are not counted.
func CountedHooks(hooks []string) []string {
	return slices.DeleteFunc(slices.Clone(hooks), func(h string) bool { return strings.HasPrefix(h, "nf_") })
}

// Condition names a condition of a [Move].
type Condition string

// The conditions.
const (
	IfSent    Condition = "sent"    // a RST is sent
	IfOpen    Condition = "open"    // the connection was in ESTABLISHED or CLOSE_WAIT
	IfLinger0 Condition = "linger0" // SO_LINGER was {1,0}
)

// The moves of the table of paths. Every function is that of the kernel that moves the counter.
var (
	// tcp_send_active_reset and tcp_v4_send_reset.
	outRsts       = Move{Counter: OutRsts, when: hasSentRST}
	outRstsIfSent = Move{Counter: OutRsts, If: IfSent, when: hasSentRST}
	// tcp_set_state, where it leaves ESTABLISHED or CLOSE_WAIT for CLOSE.
	estabResets = Move{Counter: EstabResets, If: IfOpen, when: func(e *Ending) bool {
		return wasOpen(e) && endsWithoutFIN(e)
	}}
	// The state of a connection in an accept queue is unknown where the close of its listener was not seen.
	estabResetsOfChild = Move{Counter: EstabResets, If: IfOpen, when: func(e *Ending) bool {
		return (wasOpen(e) || e.Before == StateUnknown) && endsWithoutFIN(e)
	}}
	// __tcp_close, where it finds unread data.
	onClose = Move{Counter: AbortOnClose, when: hasSentRST}
	// __tcp_close, where SO_LINGER {1,0} decides, even if it sends no RST; and tcp_rcv_state_process, where data
	// arrives after close or shutdown.
	onData          = Move{Counter: AbortOnData, when: always}
	onDataIfLinger0 = Move{Counter: AbortOnData, If: IfLinger0, when: func(e *Ending) bool {
		return e.Evidence.LingerOn && e.Evidence.Linger == 0
	}}
	onLinger  = Move{Counter: AbortOnLinger, when: always}  // __tcp_close, where TCP_LINGER2 is negative
	onTimeout = Move{Counter: AbortOnTimeout, when: always} // tcp_write_err
	onMemory  = Move{Counter: AbortOnMemory, when: always}  // tcp_check_oom's callers
)

func always(*Ending) bool { return true }

func hasSentRST(e *Ending) bool { return e.RST }

func wasOpen(e *Ending) bool { return e.Before == Established || e.Before == CloseWait }

// endsWithoutFIN: the state went to CLOSE without a FIN of this side.
func endsWithoutFIN(e *Ending) bool { return !e.FIN && (e.RST || e.After == Close) }

// Moved counts how far endings move each audited counter.
type Moved [Counters]uint64

// Map returns the counters by their names.
func (m *Moved) Map() map[string]uint64 {
	named := make(map[string]uint64, len(m))
	for c, n := range m {
		named[Counter(c).String()] = n
	}
	return named
}

// Add adds what an ending moves.
func (m *Moved) Add(e *Ending) {
	if !e.RST && e.After != Close {
		return // most endings; none of them moves a counter
	}
	for _, move := range e.Path.Info().Counters {
		if move.when(e) {
			m[move.Counter]++
		}
	}
}
