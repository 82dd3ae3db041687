//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/closetrace/closetrace/internal/sink/table"
)

// write writes all tables. Given the same results, it writes the same.
func (r *results) write(w io.Writer) error {
	var b strings.Builder
	base := r.find(untraced, mixFIN)
	fmt.Fprintf(&b, "\nKernel %s, %d connections per measurement, median of %d.\n"+
		"The untraced runs of the FIN mix differ by at most %s instructions. Peers: %s.\n",
		r.Kernel, r.Conns, r.Times, grouped(base.spread()), cmp.Or(strings.Join(r.PeerVersions, ", "), "none"))
	for _, section := range []struct {
		head string
		body table.Table
	}{
		{"Instructions per connection: inline + own process", r.instructions()},
		{"FIN mix: ratio to untraced, kernel side, output", r.details()},
		{"Budgets (FIN mix)", r.budgetTable()},
	} {
		if len(section.body.Rows) > 0 {
			fmt.Fprintf(&b, "\n**%s**\n```text\n%s```\n", section.head, section.body.String())
		}
	}
	if absent := r.absent(); len(absent) > 0 {
		fmt.Fprintf(&b, "\nNot measured: %s.\n", strings.Join(absent, ", "))
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// columns returns the columns of a table: the name of a row, then numbers.
func columns(heads ...string) (all []table.Column) {
	for i, head := range heads {
		all = append(all, table.Column{Head: head, Right: i > 0})
	}
	return all
}

// of returns what was measured of a mix, without the untraced run.
func (r *results) of(mix string) []measurement {
	return slices.DeleteFunc(slices.Clone(r.Measurements), func(m measurement) bool {
		return m.Mix != mix || m.Kind == kindNone || len(m.Runs) == 0
	})
}

// instructions has what each tracer adds to each mix.
func (r *results) instructions() table.Table {
	heads, first := []string{"TRACER"}, []string{untraced}
	for _, mix := range r.mixes() {
		heads = append(heads, mix)
		first = append(first, grouped(r.find(untraced, mix).inline()))
	}
	t := table.Table{Columns: columns(heads...), Rows: [][]string{first}}
	for _, m := range r.of(mixFIN) {
		if m.Kind == kindPeer || m.Kind == kindFloor && m.Mechanism != modes[0] || !isShown(m.Tracer) {
			continue // measured under one mix, or little different from other rows
		}
		row := []string{m.Tracer}
		for _, mix := range r.mixes() {
			cell := "-"
			if c := r.cost(r.find(m.Tracer, mix)); c.measured {
				cell = grouped(c.inline) + " + " + grouped(c.tracer)
			}
			row = append(row, cell)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// isShown reports whether a tracer has a row of its own.
func isShown(tracer string) bool {
	return !slices.ContainsFunc([]string{", table", serveTracer, rejectsTracer}, func(suffix string) bool {
		return strings.HasSuffix(tracer, suffix)
	})
}

// details has the rest of what was measured of the FIN mix, for what prints endings and for the peers.
func (r *results) details() table.Table {
	t := table.Table{
		Columns: columns("TRACER", "INLINE", "WHOLE", "SPREAD", "RUNS", "RUN NS", "RECORDS", "OUTPUT B", "LOST", "MB"),
	}
	for _, m := range r.of(mixFIN) {
		if ours := strings.HasSuffix(m.Tracer, jsonTracer) || strings.HasSuffix(m.Tracer, quietTracer); m.Kind == kindFloor ||
			m.Kind == kindOurs && !ours {
			continue
		}
		c := r.cost(m)
		t.Rows = append(t.Rows, []string{
			m.Tracer, ratio(c.inlineRatio), ratio(c.wholeRatio), grouped(m.spread()),
			fmt.Sprintf("%.1f", m.ProgramRuns), grouped(m.ProgramNS),
			fmt.Sprintf(
				"%.2f",
				m.Records,
			), grouped(m.OutputBytes), strconv.Itoa(m.Lost), fmt.Sprintf("%.1f", float64(m.ResidentKB)/1024),
		})
	}
	return t
}

// absent are the peers that were not there, each once, those that failed, and
// the mixes that were left out.
func (r *results) absent() []string {
	var names []string
	for _, m := range r.Measurements {
		if m.Absent != "" {
			names = append(names, m.Tracer)
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

// budget is a bound of one attach mode and what was measured.
type budget struct {
	what, mode      string
	bound, measured float64
	form            func(float64) string
	below           bool // the bound itself is too high
}

func (b budget) verdict() string {
	if b.measured < b.bound || b.measured == b.bound && !b.below {
		return "met"
	}
	return "missed"
}

// String returns for example "1.060 of 1.040, missed".
func (b budget) String() string {
	return fmt.Sprintf("%s of %s, %s", b.form(b.measured), b.form(b.bound), b.verdict())
}

// budgetTable has a row for each budget and a column for each mode.
func (r *results) budgetTable() table.Table {
	t := table.Table{Columns: columns(append([]string{"MEASURED OF BUDGET"}, modes...)...)}
	for _, b := range r.budgets() {
		at := slices.IndexFunc(t.Rows, func(row []string) bool { return row[0] == b.what })
		if at < 0 {
			at = len(t.Rows)
			t.Rows = append(t.Rows, append([]string{b.what}, make([]string, len(modes))...))
		}
		t.Rows[at][1+slices.Index(modes, b.mode)] = b.String()
	}
	return t
}

// ratios are the bounds of what closetrace adds in the FIN mix, by what it does and by mode: the whole to untraced.
// Native is the bound of its CPU time on the machine that runs bench, to that of the load; 0: none.
var ratios = []struct {
	what, tracer string
	bounds       map[string]float64
	native       float64
}{
	{"quiet tier (--only rst)", quietTracer,
		map[string]float64{"fentry": 1.03, "kprobe": 1.045, "tracepoint": 1.045}, 0.02},
	{"serve, nothing to report", serveTracer,
		map[string]float64{"fentry": 1.03, "kprobe": 1.045, "tracepoint": 1.045}, 0},
	{"record", recordTracer, map[string]float64{"fentry": 1.12, "kprobe": 1.16, "tracepoint": 1.15}, 0.2},
	{"record .zst", zstTracer, map[string]float64{"fentry": 1.25, "kprobe": 1.29, "tracepoint": 1.28}, 0},
	{"-o json, all endings", jsonTracer, map[string]float64{"fentry": 1.22, "kprobe": 1.27, "tracepoint": 1.26}, 0.3},
}

// budgets returns those of which the results have a measurement.
func (r *results) budgets() []budget {
	inline := map[string]float64{"fentry": 1.04, "kprobe": 1.07, "tracepoint": 1.05}
	var list []budget
	for _, mode := range modes {
		for _, b := range ratios {
			if m := r.find(mode+b.tracer, mixFIN); len(m.Runs) > 0 {
				list = append(list, budget{b.what, mode, b.bounds[mode], r.cost(m).wholeRatio, ratio, false})
			}
		}
		m := r.find(mode+jsonTracer, mixFIN)
		if len(m.Runs) == 0 {
			continue
		}
		c := r.cost(m)
		list = append(list,
			budget{"-o json, inline", mode, inline[mode], c.inlineRatio, ratio, false},
			budget{"records lost in all of these", mode, 0, float64(r.lost(mode)), grouped, false},
			budget{"resident memory, MB", mode, 48, float64(m.ResidentKB) / 1024, grouped, true},
		)
		if m := r.find(mode+zstTracer, mixFIN); len(m.Runs) > 0 {
			list = append(list, budget{"resident memory, .zst, MB", mode, 64, float64(m.ResidentKB) / 1024, grouped, true})
		}
		if rejects := r.find(mode+rejectsTracer, mixFIN); len(rejects.Runs) > 0 {
			list = append(list, budget{"filter rejects, to reported", mode, 0.5, r.cost(rejects).sum() / c.sum(), ratio, true})
		}
		if peer := r.lightestPeer(mode); peer.Tracer != "" {
			list = append(list, budget{
				"inline, to the lightest peer of the mode", mode, 1, c.inline / r.cost(peer).inline, ratio, true,
			})
		}
	}
	quiet, lightest := r.find("fentry"+quietTracer, mixFIN), r.lightestPeer(modes...)
	if len(quiet.Runs) > 0 && lightest.Tracer != "" {
		added := r.cost(quiet).sum() / r.cost(lightest).sum()
		list = append(list, budget{"quiet tier, to what " + lightest.Tracer + " adds", "fentry", 0.1, added, ratio, false})
	}
	for _, mode := range modes {
		for _, b := range ratios {
			if at := slices.IndexFunc(r.Native, func(s cpuShare) bool { return s.Tracer == mode+b.tracer }); at >= 0 {
				list = append(list, budget{"native CPU, " + b.what, mode, b.native, median(r.Native[at].Shares), ratio, false})
			}
		}
	}
	for _, s := range r.Starts {
		list = append(list, budget{"start to first line, ms", s.Mechanism, 300, median(s.MS), grouped, true})
	}
	return list
}

// lost adds up what closetrace lost in a mode.
func (r *results) lost(mode string) (n int) {
	for _, m := range r.Measurements {
		if m.Kind == kindOurs && m.Mechanism == mode {
			n += m.Lost
		}
	}
	return n
}

// lightestPeer returns the peer that adds the fewest instructions, of those that use one of the mechanisms.
func (r *results) lightestPeer(mechanisms ...string) measurement {
	peers := slices.DeleteFunc(r.of(mixFIN), func(m measurement) bool {
		return m.Kind != kindPeer || !slices.Contains(mechanisms, m.Mechanism)
	})
	if len(peers) == 0 {
		return measurement{}
	}
	return slices.MinFunc(peers, func(a, b measurement) int { return cmp.Compare(r.cost(a).sum(), r.cost(b).sum()) })
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
