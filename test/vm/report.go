package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// row is one verdict of the whole run.
type row struct {
	kernel string
	verdict
}

// modeAndJob splits the name of a job.
func (r row) modeAndJob() (mode, job string) {
	mode, job, _ = strings.Cut(r.job, "/")
	return mode, job
}

// report prints as a guest goes on: with verbose, all that comes from the guest; otherwise a line per job, and the
// output of those that fail.
type report struct {
	out     io.Writer
	verbose bool
	rows    []row
}

// follow has the console of a kernel's guest tell its progress.
func (r *report) follow(k kernel, c *console) {
	if r.verbose {
		c.onLine = func(line string) { fmt.Fprintln(r.out, line) }
	}
	c.onMark = func(m guest.Mark) {
		switch {
		case m.Event == guest.Boot:
			fmt.Fprintf(r.out, "%s: booted, guest time %.1f s\n", k.name, m.Seconds)
		case m.Event == guest.Start && r.verbose:
			fmt.Fprintf(r.out, "%s: --- %s\n", k.name, m.Job)
		case m.Event == guest.End && m.Passed():
			fmt.Fprintf(r.out, "%s: pass %s (%.1f s)\n", k.name, m.Job, m.Seconds)
		case m.Event == guest.End:
			fmt.Fprintf(r.out, "%s: FAIL %s (%.1f s)\n", k.name, m.Job, m.Seconds)
		}
	}
}

// add takes the verdicts of a kernel and shows the output of what failed.
func (r *report) add(k kernel, verdicts []verdict) {
	for _, v := range verdicts {
		r.rows = append(r.rows, row{k.name, v})
		if v.failure == "" {
			continue
		}
		fmt.Fprintf(r.out, "%s: FAIL %s: %s\n", k.name, v.job, v.failure)
		if !r.verbose {
			r.indent(v.output)
		}
	}
}

// lost tells that a guest did not get to its end, with the end of its console; if that was during a job, it is part of
// the job's output and shown there.
func (r *report) lost(k kernel, err error, c *console) {
	fmt.Fprintf(r.out, "%s: FAIL guest: %v\n", k.name, err)
	if !r.verbose && c.current == "" {
		r.indent(c.tail)
	}
}

func (r *report) indent(lines []string) {
	for _, line := range lines {
		fmt.Fprintf(r.out, "    %s\n", line)
	}
}

// failed tells whether any job failed, or none ran.
func (r *report) failed() bool {
	return len(r.rows) == 0 || slices.ContainsFunc(r.rows, func(v row) bool { return v.failure != "" })
}

// table prints kernel and mode down, jobs across.
func (r *report) table() error {
	var jobs, heads []string
	cells := map[string]string{}
	for _, v := range r.rows {
		mode, job := v.modeAndJob()
		if !slices.Contains(jobs, job) {
			jobs = append(jobs, job)
		}
		head := v.kernel + "\t" + mode
		if !slices.Contains(heads, head) {
			heads = append(heads, head)
		}
		cell := fmt.Sprintf("pass %.1f s", v.seconds)
		if v.failure != "" {
			cell = "FAIL"
		}
		cells[head+"\t"+job] = cell
	}
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "KERNEL\tMODE\t%s\n", strings.ToUpper(strings.Join(jobs, "\t")))
	for _, head := range heads {
		line := []string{head}
		for _, job := range jobs {
			cell := cells[head+"\t"+job]
			if cell == "" {
				cell = "-"
			}
			line = append(line, cell)
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	return w.Flush()
}
