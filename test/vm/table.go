package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
)

// table prints a line for each job, in the order of the kernels.
func (r *report) table(kernels []kernel) error {
	w := columns(r.out)
	fmt.Fprintln(w, "KERNEL\tRELEASE\tMODE\tSCENARIOS PASSED\tSEGMENTS EXPLAINED\tGAPS EXPECTED\tMOST VERIFIED\tTIME\tVERDICT")
	for _, k := range kernels {
		for _, v := range r.rows {
			if v.kernel == k.name {
				fmt.Fprintln(w, strings.Join(r.line(v), "\t"))
			}
		}
	}
	return w.Flush()
}

func (r *report) line(v row) []string {
	mode, _ := v.modeAndJob()
	scenarios, segments, gaps, most := "-", "-", "-", "-"
	if s := v.seen; s != nil {
		scenarios = fmt.Sprintf("%d/%d", s.Passed, s.Passed+s.Failed)
		segments = fmt.Sprintf("%d/%d", s.Explained, s.Seen)
		gaps = fmt.Sprint(len(s.Gaps))
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
	return []string{v.kernel, r.releases[v.kernel], mode, scenarios, segments, gaps, most, time, verdict}
}

// writeInstructions writes a file with the number of instructions that the verifier looked at, programs down, kernels
// across. Kernels before 5.16 do not tell.
func (r *report) writeInstructions(path string, kernels []kernel) error {
	counts := map[string]map[string]uint32{} // by program and kernel
	var heads []string
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
				if !slices.Contains(heads, k.name) {
					heads = append(heads, k.name)
				}
			}
		}
	}
	if len(heads) == 0 {
		return nil
	}
	var text bytes.Buffer
	w := columns(&text)
	fmt.Fprintf(w, "PROGRAM\t%s\n", strings.Join(heads, "\t"))
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		line := []string{name}
		for _, head := range heads {
			cell := "-"
			if n, ok := counts[name][head]; ok {
				cell = fmt.Sprint(n)
			}
			line = append(line, cell)
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text.Bytes(), 0o644)
}

func columns(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }
