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

// follow has the console of a kernel's guest report its jobs as they end.
func (r *report) follow(k kernel, c *console, jobs []guest.Job) {
	if r.verbose {
		c.onLine = func(line string) { fmt.Fprintln(r.out, line) }
	}
	c.onMark = func(m guest.Mark) {
		if m.Event == guest.Boot {
			fmt.Fprintf(r.out, "%s: booted, guest time %.1f s\n", k.name, m.Seconds)
		}
		if m.Event == guest.Start && r.verbose {
			fmt.Fprintf(r.out, "%s: --- %s\n", k.name, m.Job)
		}
		for _, job := range jobs {
			if m.Event == guest.End && m.Job == job.Name {
				r.add(k, c.verdict(job, ""))
			}
		}
	}
}

// finish reports the jobs that did not end; lost says why, if the guest was lost.
func (r *report) finish(k kernel, c *console, jobs []guest.Job, lost error) {
	why := ""
	if lost != nil {
		r.lost(k, lost, c)
		why = lost.Error()
	}
	for _, job := range jobs {
		reported := func(v row) bool { return v.kernel == k.name && v.job == job.Name }
		if !slices.ContainsFunc(r.rows, reported) {
			r.add(k, c.verdict(job, why))
		}
	}
}

// add takes a verdict and prints it, with the output of a job that failed.
func (r *report) add(k kernel, v verdict) {
	r.rows = append(r.rows, row{k.name, v})
	if v.failure == "" {
		fmt.Fprintf(r.out, "%s: pass %s (%.1f s)\n", k.name, v.job, v.seconds)
		return
	}
	fmt.Fprintf(r.out, "%s: FAIL %s (%.1f s): %s\n", k.name, v.job, v.seconds, v.failure)
	if !r.verbose {
		r.indent(v.output)
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
