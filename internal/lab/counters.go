package lab

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// resetCounters are the kernel counters of resets. A scenario that does not list one of them expects it not to move.
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

// CounterWant is how far a kernel counter must move over a run's window:
//
//	NAME +N      by exactly N
//	NAME +A..B   by A to B: timers or retransmissions decide
type CounterWant struct {
	Line        int
	Name        string
	Least, Most uint64
}

func parseCounterWant(text string, line int) (CounterWant, error) {
	words := strings.Fields(text)
	if len(words) != 2 {
		return CounterWant{}, fmt.Errorf("want COUNTER +N or COUNTER +A..B, not %q", text)
	}
	c := CounterWant{Line: line, Name: words[0]}
	bounds, ok := strings.CutPrefix(words[1], "+")
	low, high, isRange := strings.Cut(bounds, "..")
	if !isRange {
		high = low
	}
	var errLeast, errMost error
	c.Least, errLeast = strconv.ParseUint(low, 10, 63)
	c.Most, errMost = strconv.ParseUint(high, 10, 63)
	if !ok || errLeast != nil || errMost != nil || c.Least > c.Most {
		return c, fmt.Errorf("want +N or +A..B, not %q", words[1])
	}
	return c, nil
}

// String returns how far the counter must move, in words.
func (c CounterWant) String() string {
	if c.Least == c.Most {
		return strconv.FormatUint(c.Least, 10)
	}
	return fmt.Sprintf("%d to %d", c.Least, c.Most)
}

// CompareCounters returns where the kernel's counters moved further or less far than the scenario says. It is a pure
// function.
func CompareCounters(sc *Scenario, res *Result) []Mismatch {
	want := slices.Clone(sc.Counters)
	for _, name := range resetCounters {
		if !slices.ContainsFunc(want, func(c CounterWant) bool { return c.Name == name }) {
			want = append(want, CounterWant{Name: name})
		}
	}
	var out []Mismatch
	for _, c := range want {
		if got := res.Counters[c.Name]; got < c.Least || got > c.Most {
			text := fmt.Sprintf("the kernel's %s moved by %d, not by %s", c.Name, got, c)
			out = append(out, Mismatch{Line: c.Line, Text: text})
		}
	}
	return out
}

// CompareExplained returns where the kernel's counters of resets moved further or less far than the endings of a run
// explain. A tracer that does not see all endings sets partial: then they may have moved further. It is a pure
// function.
func CompareExplained(res *Result, explained map[string]uint64, partial bool) []Mismatch {
	var out []Mismatch
	for _, name := range resetCounters {
		if moved := res.Counters[name]; moved < explained[name] || moved > explained[name] && !partial {
			text := fmt.Sprintf("the kernel's %s moved by %d, but the endings explain %d", name, moved, explained[name])
			out = append(out, Mismatch{Text: text})
		}
	}
	return out
}
