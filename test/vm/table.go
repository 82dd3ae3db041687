package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/closetrace/closetrace/internal/sink/table"
)

// table prints a line for each job, in the order of the kernels.
func (r *report) table(kernels []kernel) error {
	t := table.Table{Columns: heads(
		"KERNEL", "RELEASE", "MODE", "SCENARIOS PASSED", "SEGMENTS EXPLAINED", "GAPS EXPECTED", "RETRIES",
		"MOST VERIFIED", "TIME", "VERDICT",
	)}
	for _, k := range kernels {
		for _, v := range r.rows {
			if v.kernel == k.name {
				t.Rows = append(t.Rows, r.line(v))
			}
		}
	}
	return t.Print(r.out)
}

func (r *report) line(v row) []string {
	mode, _ := v.modeAndJob()
	scenarios, segments, gaps, retries, most := "-", "-", "-", "-", "-"
	if s := v.seen; s != nil {
		scenarios = fmt.Sprintf("%d/%d", s.Passed, s.Passed+s.Failed)
		segments = fmt.Sprintf("%d/%d", s.Explained, s.Seen)
		gaps = fmt.Sprint(len(s.Gaps))
		retries = fmt.Sprintf("%d/%d", len(s.Retries), s.Retriable)
		if len(s.Instructions) > 0 {
			most = fmt.Sprint(slices.Max(slices.Collect(maps.Values(s.Instructions))))
		}
	}
	time := "-"
	if v.seconds > 0 {
		time = fmt.Sprintf("%.0f s", v.seconds)
	}
	verdict := "pass"
	if v.failure != "" {
		verdict = "FAIL"
	}
	return []string{v.kernel, r.releases[v.kernel], mode, scenarios, segments, gaps, retries, most, time, verdict}
}

// writeInstructions writes a file with the number of instructions that the verifier looked at, a row per program, a
// column per kernel. Kernels before 5.16 do not report it.
func (r *report) writeInstructions(path string, kernels []kernel) error {
	counts := map[string]map[string]uint32{} // by program and kernel
	var names []string
	for _, k := range kernels {
		for _, v := range r.rows {
			if v.kernel != k.name || v.seen == nil {
				continue
			}
			for name, n := range v.seen.Instructions {
				if counts[name] == nil {
					counts[name] = map[string]uint32{}
				}
				counts[name][k.name] = n
				if !slices.Contains(names, k.name) {
					names = append(names, k.name)
				}
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	t := table.Table{Columns: heads(append([]string{"PROGRAM"}, names...)...)}
	for _, program := range slices.Sorted(maps.Keys(counts)) {
		line := []string{program}
		for _, name := range names {
			cell := "-"
			if n, ok := counts[program][name]; ok {
				cell = fmt.Sprint(n)
			}
			line = append(line, cell)
		}
		t.Rows = append(t.Rows, line)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(t.String()), 0o644)
}

func heads(names ...string) (columns []table.Column) {
	for _, name := range names {
		columns = append(columns, table.Column{Head: name})
	}
	return columns
}
