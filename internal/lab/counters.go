package lab

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// resetCounters are the kernel counters that tell of resets. A scenario that
// does not list one of them expects it not to move.
var resetCounters = []string{
	"TcpOutRsts",
	"TcpEstabResets",
	"TCPAbortOnClose",
	"TCPAbortOnData",
	"TCPAbortOnLinger",
	"TCPAbortOnMemory",
	"TCPAbortOnTimeout",
	"TCPAbortFailed",
}

// CounterWant is how a kernel counter must move over a run's window:
//
//	NAME +N     by exactly N
//	NAME any    it may move: timers or retransmissions decide
type CounterWant struct {
	Line  int
	Name  string
	Any   bool
	Delta uint64
}

func parseCounterWant(text string, line int) (CounterWant, error) {
	words := strings.Fields(text)
	if len(words) != 2 {
		return CounterWant{}, fmt.Errorf("want: COUNTER +N or COUNTER any, not %q", text)
	}
	c := CounterWant{Line: line, Name: words[0], Any: words[1] == "any"}
	if c.Any {
		return c, nil
	}
	digits, ok := strings.CutPrefix(words[1], "+")
	n, err := strconv.ParseUint(digits, 10, 63)
	if !ok || err != nil {
		return c, fmt.Errorf("want +N or any, not %q", words[1])
	}
	c.Delta = n
	return c, nil
}

// CompareCounters says where the kernel's counters moved otherwise than the
// scenario says. It is a pure function.
func CompareCounters(sc *Scenario, res *Result) []Mismatch {
	want := slices.Clone(sc.Counters)
	for _, name := range resetCounters {
		if !slices.ContainsFunc(want, func(c CounterWant) bool { return c.Name == name }) {
			want = append(want, CounterWant{Name: name})
		}
	}
	var out []Mismatch
	for _, c := range want {
		if got := res.Counters[c.Name]; !c.Any && got != c.Delta {
			text := fmt.Sprintf("the kernel's %s moved by %d, not by %d", c.Name, got, c.Delta)
			out = append(out, Mismatch{Line: c.Line, Text: text})
		}
	}
	return out
}

// parseCounters reads the text of /proc/net/snmp or netstat: pairs of lines,
// "Tcp: names..." and "Tcp: values...". Names become nstat's, without "TcpExt".
func parseCounters(text string, into map[string]uint64) {
	var names []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if names == nil {
			names = words
			continue
		}
		prefix := strings.TrimSuffix(words[0], ":")
		if prefix == "TcpExt" {
			prefix = ""
		}
		for i := 1; i < min(len(names), len(words)); i++ {
			if n, err := strconv.ParseUint(words[i], 10, 64); err == nil {
				into[prefix+names[i]] = n
			}
		}
		names = nil
	}
}
