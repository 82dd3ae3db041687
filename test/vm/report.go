package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/closetrace/closetrace/test/vm/guest"

	"github.com/closetrace/closetrace/internal/hint"
)

// row is one line of the table.
type row struct {
	kernel string
	verdict
	seen *guest.Report // what a job of live tests reported
}

// modeAndJob splits the name of a job.
func (r row) modeAndJob() (mode, job string) {
	mode, job, _ = strings.Cut(r.job, "/")
	return mode, job
}

// report prints the progress of guests: with verbose, all of their output; without, a line per job, and the output of
// those that fail.
type report struct {
	out      io.Writer
	verbose  bool
	mu       sync.Mutex
	rows     []row
	releases map[string]string // by kernel
	hints    []string          // that were given
}

func (r *report) printf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, format, args...)
}

func (r *report) booting(k kernel, i image) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.releases[k.name] = i.release
	fmt.Fprintf(r.out, "%s: booting %s\n", k.name, i.release)
}

// follow reports the jobs of a kernel's guest as they end.
func (r *report) follow(k kernel, c *console, jobs []guest.Job) {
	if r.verbose {
		c.onLine = func(line string) { r.printf("%s: %s\n", k.name, line) }
	}
	c.onMark = func(m guest.Mark) {
		if m.Event == guest.Boot {
			r.printf("%s: booted, guest time %.1f s\n", k.name, m.Seconds)
		}
		if m.Event == guest.Start && r.verbose {
			r.printf("%s: --- %s\n", k.name, m.Job)
		}
		for _, job := range jobs {
			if m.Event == guest.End && m.Job == job.Name {
				r.add(k, c.verdict(job, ""))
			}
		}
	}
}

// finish reports the jobs that did not end. lost is why the guest was lost, if it was.
func (r *report) finish(k kernel, c *console, jobs []guest.Job, lost error) {
	why := ""
	if lost != nil {
		r.lost(k, lost, c)
		why = lost.Error()
	}
	for _, job := range jobs {
		if r.row(k, job.Name) == nil {
			r.add(k, c.verdict(job, why))
		}
	}
}

// row returns the row of a job, or nil.
func (r *report) row(k kernel, job string) *row {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.rows, func(v row) bool { return v.kernel == k.name && v.job == job })
	if i < 0 {
		return nil
	}
	return &r.rows[i]
}

// add adds a verdict and prints it, with the output of a job that failed.
func (r *report) add(k kernel, v verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, row{kernel: k.name, verdict: v})
	if v.failure == "" {
		fmt.Fprintf(r.out, "%s: pass %s (%.1f s)\n", k.name, v.job, v.seconds)
		return
	}
	fmt.Fprintf(r.out, "%s: FAIL %s (%.1f s): %s\n", k.name, v.job, v.seconds, v.failure)
	if !r.verbose {
		r.indent(slices.DeleteFunc(slices.Clone(v.output), isSuccess))
	}
}

// isSuccess reports whether a line of a failed test's output is about a success, of which there are many.
func isSuccess(line string) bool {
	line = strings.TrimSpace(line)
	return strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- PASS") ||
		strings.Contains(line, " level=DEBUG ")
}

// absent reports a kernel that could not be booted.
func (r *report) absent(k kernel, err error) {
	r.add(k, verdict{job: "-/boot", failure: err.Error()})
	r.mu.Lock()
	defer r.mu.Unlock()
	if next := hint.Of(err); next != "" && !slices.Contains(r.hints, next) {
		r.hints = append(r.hints, next)
		fmt.Fprintf(r.out, "hint: %s\n", next)
	}
}

// lost prints why a guest did not reach its end, with the end of its console. During a job, that is part of the job's
// output.
func (r *report) lost(k kernel, err error, c *console) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, "%s: FAIL guest: %v\n", k.name, err)
	if !r.verbose && c.current == "" {
		r.indent(c.tail)
	}
}

// bootAgain forgets the jobs of a guest that panicked, and prints the end of its console.
func (r *report) bootAgain(k kernel, c *console) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, "%s: kernel panic: %s; booting again\n", k.name, c.panic)
	if !r.verbose {
		r.indent(c.tail)
	}
	r.rows = slices.DeleteFunc(r.rows, func(v row) bool { return v.kernel == k.name })
}

func (r *report) indent(lines []string) {
	for _, line := range lines {
		fmt.Fprintf(r.out, "    %s\n", line)
	}
}

// collect reads the reports of a kernel's live tests. A job that passed must have one.
func (r *report) collect(k kernel, dir string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.rows {
		v := &r.rows[i]
		mode, job := v.modeAndJob()
		if v.kernel != k.name || job != liveJob {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, reportFile(mode)))
		if errors.Is(err, fs.ErrNotExist) && v.failure != "" {
			continue
		}
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &v.seen); err != nil {
			return fmt.Errorf("report of %s, %s: %w", k.name, mode, err)
		}
		r.again(*v)
	}
	return nil
}

// again prints which tests of a job that passed failed at first, with the job's output. The caller holds mu.
func (r *report) again(v row) {
	failedFirst := false
	for _, retry := range v.seen.Retries {
		if retry.Reason == guest.Again {
			fmt.Fprintf(r.out, "%s: %s: %s: %s\n", v.kernel, v.job, retry.Test, retry.Reason)
			failedFirst = true
		}
	}
	if failedFirst && v.failure == "" && !r.verbose {
		r.indent(slices.DeleteFunc(slices.Clone(v.output), isSuccess))
	}
}

// native is the name of this machine's kernel in the table.
const native = "native"

// addNative adds the report of the live tests on this machine from the file that CLOSETRACE_REPORT named.
func (r *report) addNative(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return withHint(err, "make live writes it")
	}
	var seen guest.Report
	if err := json.Unmarshal(text, &seen); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	v := verdict{job: seen.Attach + "/" + liveJob}
	if seen.Failed > 0 {
		v.failure = fmt.Sprintf("%d scenarios failed", seen.Failed)
	}
	r.releases[native] = seen.Kernel
	r.rows = append(r.rows, row{kernel: native, verdict: v, seen: &seen})
	return nil
}

// failed reports whether a job failed, or none ran.
func (r *report) failed() bool {
	return len(r.rows) == 0 || slices.ContainsFunc(r.rows, func(v row) bool { return v.failure != "" })
}
