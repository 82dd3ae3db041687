package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Families are the families of endings that a scenario lists completely, unless
// its header "families:" names others. Endings of other families are not
// compared.
var Families = []string{"close", "shutdown"}

// Seen is one ending as a tracer reported it, live or from a record.
type Seen struct {
	Local, Remote netip.AddrPort
	Path          string
	// Fields is the ending's decoded JSON form.
	Fields map[string]any
	// MonoNS is when it happened, on CLOCK_MONOTONIC. Netns is the inode
	// number of its network namespace, 0 if it is not known.
	MonoNS uint64
	Netns  uint32
}

// ReadSeen reads an ending from its JSON form.
func ReadSeen(ending []byte) (Seen, error) {
	var s Seen
	var known struct {
		Local  netip.AddrPort `json:"local"`
		Remote netip.AddrPort `json:"remote"`
		Path   string         `json:"path"`
		MonoNS uint64         `json:"mono_ns"`
		Netns  uint32         `json:"netns"`
	}
	if err := json.Unmarshal(ending, &known); err != nil {
		return s, fmt.Errorf("reading an ending: %w", err)
	}
	s = Seen{Local: known.Local, Remote: known.Remote, Path: known.Path, MonoNS: known.MonoNS, Netns: known.Netns}
	digits := json.NewDecoder(bytes.NewReader(ending))
	digits.UseNumber()
	if err := digits.Decode(&s.Fields); err != nil {
		return s, fmt.Errorf("reading an ending: %w", err)
	}
	return s, nil
}

func (s Seen) String() string {
	return fmt.Sprintf("%s of %v to %v", s.Path, s.Local, s.Remote)
}

// Mismatch is one difference between what a scenario expects and what was seen.
type Mismatch struct {
	Line int    // of the expectation in the scenario's file, 0 if there is none
	Text string // in plain words
}

func (m Mismatch) String() string {
	if m.Line == 0 {
		return m.Text
	}
	return fmt.Sprintf("line %d: %s", m.Line, m.Text)
}

// Compare returns where the endings seen in one attach mode differ from those
// that the scenario expects. It ignores endings outside of the run's window, of
// other namespaces, and of families that the scenario does not compare. Any other
// ending that the scenario does not list is a mismatch. It is a pure function.
func Compare(sc *Scenario, mode string, res *Result, seen []Seen) []Mismatch {
	seen = slices.DeleteFunc(slices.Clone(seen), func(s Seen) bool { return !res.covers(s) || !sc.Compares(s.Path) })
	want := sc.Expected(mode)
	may := func(e Expectation) bool { return slices.Contains(e.May, mode) }
	slices.SortStableFunc(want, func(a, b Expectation) int { // what must be seen is assigned first
		switch {
		case may(a) == may(b):
			return 0
		case may(b):
			return -1
		}
		return 1
	})
	chosen := assign(want, seen, func(e Expectation, s Seen) bool { return len(differences(e, s, res)) == 0 })

	used := make([]bool, len(seen))
	for _, i := range chosen {
		if i >= 0 {
			used[i] = true
		}
	}
	var out []Mismatch
	for w, e := range want {
		if chosen[w] < 0 && !may(e) {
			out = append(out, explain(e, res, seen, used))
		}
	}
	for i, s := range seen {
		if !used[i] {
			text := fmt.Sprintf("not expected, but seen: %s%s", s, nameOf(s, res))
			out = append(out, Mismatch{Text: text})
		}
	}
	return out
}

// Contradictions returns which of the endings seen cannot be any that the
// scenario expects. It is for a tracer that does not see everything: a missing
// ending or field is no contradiction.
func Contradictions(sc *Scenario, mode string, res *Result, seen []Seen) []Mismatch {
	seen = slices.DeleteFunc(slices.Clone(seen), func(s Seen) bool { return !res.covers(s) || !sc.Compares(s.Path) })
	want := sc.Expected(mode)
	used := make([]bool, len(seen))
	for _, i := range assign(want, seen, func(e Expectation, s Seen) bool { return agrees(e, s, res) }) {
		if i >= 0 {
			used[i] = true
		}
	}
	var out []Mismatch
	for i, s := range seen {
		if !used[i] {
			out = append(out, Mismatch{Text: fmt.Sprintf("contradicts the scenario: %s%s", s, nameOf(s, res))})
		}
	}
	return out
}

// agrees reports whether no field of an ending contradicts an expectation.
func agrees(e Expectation, s Seen, res *Result) bool {
	if ep, ok := res.Sockets[e.Socket]; !ok || !sameSocket(ep, s) || s.Path != e.Path {
		return false
	}
	for _, f := range e.Fields {
		if got, ok := lookup(s.Fields, f.Key); ok && !f.matches(got, res.IDs) {
			return false
		}
	}
	return true
}

// Compares reports whether the scenario lists all endings of a path's family.
func (sc *Scenario) Compares(path string) bool {
	family, _, _ := strings.Cut(path, ".")
	return slices.Contains(sc.Families, family)
}

// covers reports whether an ending belongs to this run.
func (r *Result) covers(s Seen) bool {
	return s.MonoNS >= r.StartNS && s.MonoNS <= r.EndNS &&
		(s.Netns == 0 || s.Netns == r.Netns)
}

// assign returns for each expectation an ending that fulfils it, or -1. No ending
// is assigned twice, and as many as possible are (augmenting paths).
func assign(want []Expectation, seen []Seen, fulfils func(Expectation, Seen) bool) []int {
	owner := make([]int, len(seen))
	chosen := make([]int, len(want))
	for i := range owner {
		owner[i] = -1
	}
	var try func(w int, visited []bool) bool
	try = func(w int, visited []bool) bool {
		for i, s := range seen {
			if visited[i] || !fulfils(want[w], s) {
				continue
			}
			visited[i] = true
			if owner[i] < 0 || try(owner[i], visited) {
				owner[i], chosen[w] = w, i
				return true
			}
		}
		return false
	}
	for w := range want {
		chosen[w] = -1
		try(w, make([]bool, len(seen)))
	}
	return chosen
}

// differences returns how an ending differs from an expectation, the most important difference first.
func differences(e Expectation, s Seen, res *Result) []string {
	var out []string
	if ep, ok := res.Sockets[e.Socket]; !ok {
		out = append(out, fmt.Sprintf("the run has no socket %s", e.Socket))
	} else if !sameSocket(ep, s) {
		out = append(out, fmt.Sprintf("it is another socket: %v to %v", s.Local, s.Remote))
	}
	if s.Path != e.Path {
		out = append(out, fmt.Sprintf("path is %s, not %s", s.Path, e.Path))
	}
	for _, f := range e.Fields {
		got, ok := lookup(s.Fields, f.Key)
		switch {
		case !ok && (f.Value == "false" || f.Value == "0"):
		case !ok:
			out = append(out, fmt.Sprintf("%s is missing, not %s", f.Key, f.Value))
		case !f.matches(got, res.IDs):
			out = append(out, fmt.Sprintf("%s is %s, not %s", f.Key, got, f.Value))
		}
	}
	return out
}

// sameSocket compares addresses. tcp_disconnect, also after a failed connect(2),
// clears the remote port and the local address unless the application bound it. A
// tracer may have addresses that the scenario could not read any more, and vice
// versa. So an address that only one of them has is no difference.
func sameSocket(want Endpoint, s Seen) bool {
	want, got := want.unmap(), Endpoint{s.Local, s.Remote}.unmap()
	agrees := func(a, b netip.Addr) bool {
		return a == b || !a.IsValid() || a.IsUnspecified() || !b.IsValid() || b.IsUnspecified()
	}
	ports := got.Remote.Port() == want.Remote.Port() || got.Remote.Port() == 0 || want.Remote.Port() == 0
	return ports && got.Local.Port() == want.Local.Port() &&
		agrees(got.Local.Addr(), want.Local.Addr()) && agrees(got.Remote.Addr(), want.Remote.Addr())
}

// blank reports whether an address is none or 0.0.0.0:0.
func blank(a netip.AddrPort) bool {
	return a.Port() == 0 && (!a.Addr().IsValid() || a.Addr().IsUnspecified())
}

// explain returns why an expectation has no ending: the most similar unused one
// of the same socket differs, or there is none.
func explain(e Expectation, res *Result, seen []Seen, used []bool) Mismatch {
	best := -1
	var why []string
	for i, s := range seen {
		if used[i] || !sameSocket(res.Sockets[e.Socket], s) {
			continue
		}
		if diff := differences(e, s, res); best < 0 || s.Path == e.Path && seen[best].Path != e.Path ||
			(s.Path == e.Path) == (seen[best].Path == e.Path) && len(diff) < len(why) {
			best, why = i, diff
		}
	}
	if best < 0 {
		return Mismatch{Line: e.Line, Text: fmt.Sprintf("expected, but not seen: %s", e)}
	}
	used[best] = true
	return Mismatch{
		Line: e.Line,
		Text: fmt.Sprintf("expected %s; seen %s, but %s", e, seen[best], strings.Join(why, "; ")),
	}
}

// nameOf returns " (socket A)" if a socket of the run has the ending's addresses.
// A listener shares addresses with its connections, so sockets with both
// addresses take precedence.
func nameOf(s Seen, res *Result) string {
	var names, connected []string
	for name, ep := range res.Sockets {
		if !sameSocket(ep, s) {
			continue
		}
		names = append(names, name)
		if ep.Remote.Port() != 0 {
			connected = append(connected, name)
		}
	}
	if len(connected) > 0 {
		names = connected
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return " (socket " + strings.Join(names, ", ") + ")"
}
