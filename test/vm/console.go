package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// tailLines is how many lines of the console a report of a lost guest shows.
const tailLines = 30

// console parses what a guest writes to its console: the output of each job and its result.
type console struct {
	nonce   string
	onLine  func(line string)   // called with each line that is not a mark; may be nil
	onMark  func(m guest.Mark)  // called with each mark; may be nil
	partial []byte              // an unfinished line
	current string              // the job whose output is read; "" between jobs
	output  map[string][]string // by job
	ended   map[string]guest.Mark
	started map[string]bool
	boot    *guest.Mark
	done    bool
	failure string // of init
	panic   string // of the kernel
	tail    []string
}

func newConsole(nonce string) *console {
	return &console{
		nonce: nonce, output: map[string][]string{}, ended: map[string]guest.Mark{}, started: map[string]bool{},
	}
}

// Write parses the next bytes. It never fails.
func (c *console) Write(p []byte) (int, error) {
	c.partial = append(c.partial, p...)
	for {
		line, rest, found := bytes.Cut(c.partial, []byte("\n"))
		if !found {
			return len(p), nil
		}
		c.line(string(line))
		c.partial = rest
	}
}

// Close parses a last line without a newline. It never fails.
func (c *console) Close() error {
	if len(c.partial) > 0 {
		c.line(string(c.partial))
		c.partial = nil
	}
	return nil
}

func (c *console) line(line string) {
	text, mark, marked := guest.Cut(strings.TrimSuffix(line, "\r"), c.nonce)
	if text != "" || !marked {
		c.text(text)
	}
	if marked {
		c.mark(mark)
	}
}

func (c *console) text(line string) {
	if c.tail = append(c.tail, line); len(c.tail) > tailLines {
		c.tail = c.tail[1:]
	}
	if _, cause, ok := strings.Cut(line, "Kernel panic - not syncing: "); ok && c.panic == "" {
		c.panic = cause
	}
	if c.current != "" {
		c.output[c.current] = append(c.output[c.current], line)
	}
	if c.onLine != nil {
		c.onLine(line)
	}
}

func (c *console) mark(m guest.Mark) {
	switch m.Event {
	case guest.Boot:
		c.boot = &m
	case guest.Start:
		c.started[m.Job] = true
		c.current = m.Job
	case guest.End:
		c.ended[m.Job] = m
		c.current = ""
	case guest.Done:
		c.done = true
	case guest.Fail:
		c.failure = m.Error
	}
	if c.onMark != nil {
		c.onMark(m)
	}
}

// verdict is the result of one job.
type verdict struct {
	job     string
	seconds float64
	failure string // why it failed; "" if it passed
	output  []string
}

// verdict returns the result of a job. It passed only if its start and its successful end were seen. For a job
// without an end, the failure is the reason why the guest was lost, if it was.
func (c *console) verdict(job guest.Job, lost string) verdict {
	if lost == "" {
		lost = "its marks are missing from the console"
	}
	mark, ended := c.ended[job.Name]
	v := verdict{job: job.Name, seconds: mark.Seconds, output: c.output[job.Name]}
	switch {
	case c.started[job.Name] && ended:
		v.failure = failureOf(mark, job)
	case c.started[job.Name]:
		v.failure = "did not end: " + lost
	default:
		v.failure = "never ran: " + lost
	}
	return v
}

// failureOf returns why a job that ended did not pass, or "".
func failureOf(m guest.Mark, job guest.Job) string {
	switch {
	case m.TimedOut:
		return fmt.Sprintf("timed out after %v", job.Timeout)
	case m.Error != "":
		return m.Error
	case m.Signal != "":
		return "killed by " + m.Signal
	case !m.Passed():
		return fmt.Sprintf("exit code %d", m.Exit)
	}
	return ""
}

// panicked reports whether the guest's kernel did.
func (c *console) panicked() bool { return !c.done && c.panic != "" }

// lost returns why the guest did not reach its end, or nil if it did.
func (c *console) lost() error {
	switch {
	case c.done: // so what looks like a panic was a job's output
		return nil
	case c.panicked():
		return fmt.Errorf("kernel panic: %s", c.panic)
	case c.failure != "":
		return fmt.Errorf("init: %s", c.failure)
	case c.boot == nil:
		return errors.New("the guest did not boot")
	}
	return errors.New("the guest stopped before its end")
}
