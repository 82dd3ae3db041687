//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// write writes all tables. Given the same results, it writes the same.
func (r *results) write(w io.Writer) error {
	var b strings.Builder
	base := r.find(untraced, mixFIN)
	fmt.Fprintf(&b, "\nKernel %s, %d connections a measurement, the median of %d. Untraced, a connection of the FIN\n"+
		"mix takes %s instructions; the measurements of it are at most %s apart.\n", r.Kernel, r.Conns, r.Times, grouped(base.inline()), grouped(base.spread()))
	if len(r.PeerVersions) > 0 {
		fmt.Fprintf(&b, "Peers: %s.\n", strings.Join(r.PeerVersions, ", "))
	}
	for _, section := range []struct {
		head string
		rows [][]string
	}{
		{"Per connection (FIN mix, two closes)", r.instructions()},
		{"The kernel side and the reader, per connection (FIN mix)", r.kernelSides()},
		{"The other mixes: added instructions, inline + tracer, and the ratio of all to untraced", r.otherMixes()},
		{"closetrace, printing JSON, against each peer: what it adds, as a share of what the peer adds (FIN mix)", r.againstPeers()},
		{"Budgets", r.budgetRows()},
	} {
		if len(section.rows) > 1 {
			fmt.Fprintf(&b, "\n### %s\n\n%s", section.head, table(section.rows))
		}
	}
	for _, absent := range r.absent() {
		fmt.Fprintf(&b, "\nNot measured: %s.\n", absent)
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// table renders rows, the first of them the heads, as a block of code.
func table(rows [][]string) string {
	var b strings.Builder
	b.WriteString("```text\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // a Builder does not fail
	b.WriteString("```\n")
	return b.String()
}

// of returns what was measured of a mix, without the untraced run.
func (r *results) of(mix string) []measurement {
	return slices.DeleteFunc(slices.Clone(r.Measurements), func(m measurement) bool {
		return m.Mix != mix || m.Kind == kindNone || len(m.Runs) == 0
	})
}

func (r *results) instructions() [][]string {
	rows := [][]string{{"TRACER", "INLINE", "TRACER", "SUM", "INLINE/UNTRACED", "ALL/UNTRACED", "INLINE/FLOOR", "SPREAD"}}
	for _, m := range r.of(mixFIN) {
		c := r.cost(m)
		floor, ofFloor := r.cost(r.find("floor "+m.Mechanism, mixFIN)), "-"
		if floor.measured {
			ofFloor = fmt.Sprintf("%.1f", c.inline/floor.inline)
		}
		rows = append(rows, []string{
			m.Tracer, grouped(c.inline), grouped(c.tracer), grouped(c.sum()),
			ratio(c.inlineRatio), ratio(c.wholeRatio), ofFloor, grouped(m.spread()),
		})
	}
	return rows
}

func (r *results) kernelSides() [][]string {
	rows := [][]string{{"TRACER", "PROGRAM RUNS", "PROGRAM NS", "RECORDS", "RECORD BYTES", "OUTPUT BYTES", "TRACER/RECORD", "RECORDS/WAKE-UP", "LOST", "RESIDENT MB"}}
	for _, m := range r.of(mixFIN) {
		rows = append(rows, []string{
			m.Tracer, fmt.Sprintf("%.1f", m.ProgramRuns), grouped(m.ProgramNS), fmt.Sprintf("%.2f", m.Records),
			grouped(m.RecordBytes), grouped(m.OutputBytes), quotient(m.tracer(), m.Records), quotient(m.Records, m.WakeUps),
			strconv.Itoa(m.Lost), fmt.Sprintf("%.1f", float64(m.ResidentKB)/1024),
		})
	}
	return rows
}

func (r *results) otherMixes() [][]string {
	mixes := slices.DeleteFunc(r.mixes(), func(mix string) bool { return mix == mixFIN })
	rows := [][]string{append([]string{"TRACER"}, mixes...)}
	untracedRow := []string{untraced}
	for _, mix := range mixes {
		untracedRow = append(untracedRow, grouped(r.find(untraced, mix).inline()))
	}
	rows = append(rows, untracedRow)
	for _, m := range r.of(mixFIN) {
		row := []string{m.Tracer}
		for _, mix := range mixes {
			c := r.cost(r.find(m.Tracer, mix))
			row = append(row, fmt.Sprintf("%s + %s, %s", grouped(c.inline), grouped(c.tracer), ratio(c.wholeRatio)))
		}
		rows = append(rows, row)
	}
	if len(mixes) == 0 {
		return nil
	}
	return rows
}

func (r *results) againstPeers() [][]string {
	rows := [][]string{{""}}
	for _, p := range r.of(mixFIN) {
		if p.Kind == kindPeer {
			rows[0] = append(rows[0], strings.ToUpper(p.Tracer))
		}
	}
	if len(rows[0]) == 1 {
		return nil
	}
	for _, mode := range modes {
		name := mode + ", json"
		ours, row := r.cost(r.find(name, mixFIN)), []string{name}
		if !ours.measured {
			continue
		}
		for _, p := range r.of(mixFIN) {
			if p.Kind == kindPeer {
				row = append(row, fmt.Sprintf("%.0f %%", 100*ours.sum()/r.cost(p).sum()))
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// absent are the peers that were not there, each once, with the package that has it, those that failed, and
// the mixes that were left out.
func (r *results) absent() []string {
	var names []string
	for _, m := range r.Measurements {
		if m.Absent != "" {
			names = append(names, fmt.Sprintf("%s (package %s)", m.Tracer, m.Absent))
		}
		if m.Failed != "" {
			names = append(names, fmt.Sprintf("%s (%s)", m.Tracer, m.Failed))
		}
	}
	for mix := range strings.SplitSeq(allMixes, ",") {
		if !slices.Contains(r.mixes(), mix) {
			names = append(names, "the mix "+mix)
		}
	}
	return slices.Compact(names)
}

// budget is a bound and what was measured.
type budget struct {
	what            string
	bound, measured float64
	form            func(float64) string
	below           bool // the bound itself is too much
}

func (b budget) verdict() string {
	if b.measured < b.bound || b.measured == b.bound && !b.below {
		return "met"
	}
	return "missed"
}

func (r *results) budgetRows() [][]string {
	rows := [][]string{{"BUDGET (FIN MIX)", "AT MOST", "MEASURED", ""}}
	for _, b := range r.budgets() {
		most := b.form(b.bound)
		if b.below {
			most = "below " + most
		}
		rows = append(rows, []string{b.what, most, b.form(b.measured), b.verdict()})
	}
	return rows
}

// budgets are those of issue 5 that a run can tell of.
func (r *results) budgets() []budget {
	bounds := map[string][2]float64{"fentry": {1.04, 1.12}, "kprobe": {1.07, 1.16}, "tracepoint": {1.05, 1.13}}
	var list []budget
	for _, mode := range modes {
		m := r.find(mode+", json", mixFIN)
		if len(m.Runs) == 0 {
			continue
		}
		c := r.cost(m)
		list = append(list,
			budget{mode + ": inline, against untraced", bounds[mode][0], c.inlineRatio, ratio, false},
			budget{mode + ": all with -o json, against untraced", bounds[mode][1], c.wholeRatio, ratio, false},
			budget{mode + ": records lost, of all mixes", 0, float64(r.lost(m.Tracer)), grouped, false},
			budget{mode + ": resident memory, MB", 40, float64(m.ResidentKB) / 1024, grouped, true},
		)
		for _, peer := range r.of(mixFIN) {
			if peer.Kind == kindPeer && peer.Mechanism == mode {
				list = append(list, budget{mode + ": inline, against " + peer.Tracer, 1, c.inline / r.cost(peer).inline, ratio, true})
			}
		}
		if rejects := r.find(mode+", filter rejects", mixFIN); len(rejects.Runs) > 0 {
			list = append(list, budget{
				mode + ": a connection that the filter rejects, against one reported", 0.5, r.cost(rejects).sum() / c.sum(), ratio, true,
			})
		}
	}
	if lightest := r.lightestPeer(); lightest.Tracer != "" {
		ours := r.cost(r.find("fentry, json", mixFIN))
		list = append(list, budget{"fentry: what it adds, against " + lightest.Tracer, 0.2, ours.sum() / r.cost(lightest).sum(), ratio, false})
	}
	for _, s := range r.Starts {
		list = append(list, budget{s.Mechanism + ": start to first line, ms, natively", 300, median(s.MS), grouped, true})
	}
	return list
}

func (r *results) lost(tracer string) (n int) {
	for _, m := range r.Measurements {
		if m.Tracer == tracer {
			n += m.Lost
		}
	}
	return n
}

// lightestPeer is the peer that adds least.
func (r *results) lightestPeer() measurement {
	peers := slices.DeleteFunc(r.of(mixFIN), func(m measurement) bool { return m.Kind != kindPeer })
	if len(peers) == 0 {
		return measurement{}
	}
	return slices.MinFunc(peers, func(a, b measurement) int { return cmp.Compare(r.cost(a).sum(), r.cost(b).sum()) })
}

// quotient is "-" where there is nothing to divide, or nothing that it belongs to.
func quotient(a, b float64) string {
	if a == 0 || b == 0 {
		return "-"
	}
	return grouped(a / b)
}

func ratio(x float64) string { return fmt.Sprintf("%.3f", x) }

// grouped writes a number without fraction, with a comma between thousands.
func grouped(x float64) string {
	digits := strconv.FormatFloat(x, 'f', 0, 64)
	sign := ""
	if rest, negative := strings.CutPrefix(digits, "-"); negative {
		sign, digits = "-", rest
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}
