package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/test/vm/guest"
)

const nonce = "TESTNONCE"

var twoJobs = []guest.Job{{Name: "kprobe/lab", Timeout: time.Minute}, {Name: "kprobe/live", Timeout: time.Minute}}

func mark(t *testing.T, m guest.Mark) string {
	t.Helper()
	line, err := m.Line(nonce)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// feed writes text in pieces of every size, like a pipe, and checks that the result is the same.
func feed(t *testing.T, text string) *console {
	t.Helper()
	whole := newConsole(nonce)
	_, _ = whole.Write([]byte(text))
	_ = whole.Close()
	for size := 1; size < 40; size++ {
		c := newConsole(nonce)
		for rest := []byte(text); len(rest) > 0; {
			n := min(size, len(rest))
			_, _ = c.Write(rest[:n])
			rest = rest[n:]
		}
		_ = c.Close()
		if got, want := outcome(c), outcome(whole); got != want {
			t.Errorf("in pieces of %d: %s, want %s", size, got, want)
		}
	}
	return whole
}

// outcome returns the results of twoJobs on one line.
func outcome(c *console) string {
	lost := ""
	if err := c.lost(); err != nil {
		lost = err.Error()
	}
	all := []string{"lost: " + lost}
	for _, job := range twoJobs {
		v := c.verdict(job, lost)
		all = append(all, v.job+": "+v.failure+" ["+strings.Join(v.output, "|")+"]")
	}
	return strings.Join(all, "; ")
}

func TestConsole(t *testing.T) {
	boot := mark(t, guest.Mark{Event: guest.Boot, Seconds: 2.5})
	start1, start2 := mark(
		t,
		guest.Mark{Event: guest.Start, Job: "kprobe/lab"},
	), mark(
		t,
		guest.Mark{Event: guest.Start, Job: "kprobe/live"},
	)
	end1, end2 := mark(
		t,
		guest.Mark{Event: guest.End, Job: "kprobe/lab"},
	), mark(
		t,
		guest.Mark{Event: guest.End, Job: "kprobe/live"},
	)
	done := mark(t, guest.Mark{Event: guest.Done})
	with := func(m guest.Mark) string {
		m.Event, m.Job = guest.End, "kprobe/live"
		return mark(t, m)
	}
	rest := boot + start1 + end1 + start2
	for _, c := range []struct{ name, text, want string }{
		{"all well", "firmware\r\n" + boot + start1 + "one\ntwo\n" + end1 + start2 + "three\n" + end2 + done,
			"lost: ; kprobe/lab:  [one|two]; kprobe/live:  [three]"},
		{"no newline before a mark", boot + start1 + "one" + end1 + start2 + end2 + done,
			"lost: ; kprobe/lab:  [one]; kprobe/live:  []"},
		{"empty lines are output", boot + start1 + "\n\n" + end1 + start2 + end2 + done,
			"lost: ; kprobe/lab:  [|]; kprobe/live:  []"},
		{"exit code", rest + with(guest.Mark{Exit: 3}) + done,
			"lost: ; kprobe/lab:  []; kprobe/live: exit code 3 []"},
		{"signal", rest + with(guest.Mark{Exit: 139, Signal: "SIGSEGV"}) + done,
			"lost: ; kprobe/lab:  []; kprobe/live: killed by SIGSEGV []"},
		{"timed out", rest + "working\n" + with(guest.Mark{Exit: 137, Signal: "SIGKILL", TimedOut: true}) + done,
			"lost: ; kprobe/lab:  []; kprobe/live: timed out after 1m0s [working]"},
		{"timed out and yet exit code 0", rest + with(guest.Mark{TimedOut: true}) + done,
			"lost: ; kprobe/lab:  []; kprobe/live: timed out after 1m0s []"},
		{"not started", rest + with(guest.Mark{Error: "start: no such file"}) + done,
			"lost: ; kprobe/lab:  []; kprobe/live: start: no such file []"},
		{"truncated in the output", rest + "half a li",
			"lost: the guest stopped before its end; kprobe/lab:  []; kprobe/live: did not end: the guest stopped before its end [half a li]"},
		{"panic", rest + "[  1.0] Kernel panic - not syncing: Fatal exception\r\n",
			"lost: kernel panic: Fatal exception; kprobe/lab:  []; kprobe/live: did not end: kernel panic: Fatal exception [[  1.0] Kernel panic - not syncing: Fatal exception]"},
		{"panic before the first job", "Kernel panic - not syncing: VFS\r\n",
			"lost: kernel panic: VFS; kprobe/lab: never ran: kernel panic: VFS []; kprobe/live: never ran: kernel panic: VFS []"},
		{"a job talks of a panic", boot + start1 + "Kernel panic - not syncing: no\n" + end1 + start2 + end2 + done,
			"lost: ; kprobe/lab:  [Kernel panic - not syncing: no]; kprobe/live:  []"},
		{"init fails", boot + start1 + end1 + mark(t, guest.Mark{Event: guest.Fail, Error: "send files: gone"}),
			"lost: init: send files: gone; kprobe/lab:  []; kprobe/live: never ran: init: send files: gone []"},
		{"nothing at all", "",
			"lost: the guest did not boot; kprobe/lab: never ran: the guest did not boot []; kprobe/live: never ran: the guest did not boot []"},
		{"a job that was left out", boot + start1 + end1 + done,
			"lost: ; kprobe/lab:  []; kprobe/live: never ran: its marks are missing from the console []"},
		{"an end without a start", boot + start1 + end1 + end2 + done,
			"lost: ; kprobe/lab:  []; kprobe/live: never ran: its marks are missing from the console []"},
		{"a mark of another boot", rest + "@vm OTHER {}\n" + end2 + done,
			"lost: ; kprobe/lab:  []; kprobe/live:  [@vm OTHER {}]"},
		{"a mark that the kernel's log broke", rest + strings.Replace(end2, ":", ":[ 1.0] oops\n", 1) + done,
			"lost: ; kprobe/lab:  []; kprobe/live: did not end: its marks are missing from the console [" +
				strings.TrimSuffix(strings.Replace(end2, ":", ":[ 1.0] oops|", 1), "\n") + "]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := outcome(feed(t, c.text)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Wherever the console is cut, a job whose end was not seen must not pass.
func TestConsoleTruncated(t *testing.T) {
	text := mark(t, guest.Mark{Event: guest.Boot}) +
		mark(
			t,
			guest.Mark{Event: guest.Start, Job: "kprobe/lab"},
		) + "out\n" + mark(t, guest.Mark{Event: guest.End, Job: "kprobe/lab"}) +
		mark(t, guest.Mark{Event: guest.Start, Job: "kprobe/live"}) + "out\n"
	text += strings.TrimSuffix(mark(t, guest.Mark{Event: guest.End, Job: "kprobe/live"}), "\n")
	for n := range len(text) {
		c := newConsole(nonce)
		_, _ = c.Write([]byte(text[:n]))
		_ = c.Close()
		if c.lost() == nil {
			t.Errorf("cut at %d: the guest is not seen as lost", n)
		}
		if v := c.verdict(twoJobs[1], "lost"); v.failure == "" {
			t.Errorf("cut at %d: a job passed without its end: %q", n, text[:n])
		}
	}
}

func TestReportFailed(t *testing.T) {
	var out strings.Builder
	r := &report{out: &out}
	if !r.failed() {
		t.Error("nothing ran, and failed() is false")
	}
	r.add(kernel{name: "6.1"}, verdict{job: "kprobe/lab", seconds: 1.26})
	if r.failed() {
		t.Error("one job passed, and failed() is true")
	}
	r.add(
		kernel{name: "6.12"},
		verdict{
			job:     "kprobe/live",
			failure: "exit code 1",
			output:  []string{"=== RUN   TestLab", "    --- PASS: TestLab/a (0.1s)", "why"},
		},
	)
	if !r.failed() {
		t.Error("one job failed, and failed() is false")
	}
	if text := out.String(); !strings.HasSuffix(text, ": exit code 1\n    why\n") {
		t.Errorf("want only the output about the failure:\n%s", text)
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	r := &report{out: &out, releases: map[string]string{"6.1": "6.1.0-56-cloud-amd64", "7.2": "7.2.12-cloud-amd64"}}
	seen := &guest.Report{Passed: 161, Failed: 1, Explained: 9, Seen: 10, Gaps: []string{"mptcp"}, Retriable: 190}
	seen.Instructions = map[string]uint32{"a": 5, "b": 70}
	other := &guest.Report{Passed: 162, Explained: 10, Seen: 10, Retriable: 191, Retries: make([]guest.Retry, 2)}
	other.Instructions = map[string]uint32{"a": 6}
	r.rows = []row{
		{"7.2", verdict{job: "kprobe/live", seconds: 61.2}, other},
		{"6.1", verdict{job: "fentry/live", seconds: 70, failure: "exit code 1"}, seen},
		{"6.1", verdict{job: "kprobe/live", failure: "never ran"}, nil},
	}
	here := filepath.Join(t.TempDir(), "live.json")
	if err := os.WriteFile(here, []byte(`{"kernel":"6.9.1","attach":"fentry","passed":7,"explained":3,"seen":3,"retriable":40,"retries":[{"test":"TestLab/x","reason":"y"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.addNative(here); err != nil {
		t.Fatal(err)
	}
	kernels := []kernel{{name: native}, {name: "6.1"}, {name: "7.2"}}
	if err := r.table(kernels); err != nil {
		t.Fatal(err)
	}
	const want = `KERNEL  RELEASE               MODE    SCENARIOS PASSED  SEGMENTS EXPLAINED  GAPS EXPECTED  RETRIES  MOST VERIFIED  TIME  VERDICT
native  6.9.1                 fentry  7/7               3/3                 0              1/40     -              -     pass
6.1     6.1.0-56-cloud-amd64  fentry  161/162           9/10                1              0/190    70             70 s  FAIL
6.1     6.1.0-56-cloud-amd64  kprobe  -                 -                   -              -        -              -     FAIL
7.2     7.2.12-cloud-amd64    kprobe  162/162           10/10               0              2/191    6              61 s  pass
`
	if out.String() != want {
		t.Errorf("table\n%swant\n%s", &out, want)
	}
	file := filepath.Join(t.TempDir(), "bin", "verified.txt")
	if err := r.writeInstructions(file, kernels); err != nil {
		t.Fatal(err)
	}
	const verified = "PROGRAM  6.1  7.2\na        5    6\nb        70   -\n"
	if text, err := os.ReadFile(file); err != nil || string(text) != verified {
		t.Errorf("%v\n%swant\n%s", err, text, verified)
	}
}

// A report of live tests belongs to its mode's job; one that passed must have left it.
func TestCollect(t *testing.T) {
	k := kernel{name: "6.1"}
	r := &report{out: io.Discard}
	r.add(k, verdict{job: "fentry/live"})
	r.add(k, verdict{job: "kprobe/live", failure: "timed out"})
	dir := t.TempDir()
	if err := r.collect(k, dir); err == nil {
		t.Error("no error for a job that passed and left no report")
	}
	writeTree(t, dir, map[string]string{"fentry.json": `{"passed":162}`})
	if err := r.collect(k, dir); err != nil || r.rows[0].seen == nil || r.rows[0].seen.Passed != 162 ||
		r.rows[1].seen != nil {
		t.Errorf("%v: %+v", err, r.rows)
	}
	writeTree(t, dir, map[string]string{"kprobe.json": `{`})
	if err := r.collect(k, dir); err == nil {
		t.Error("no error for half a report")
	}
}

// Every job is reported once, whether its end was seen or not.
func TestReportFinish(t *testing.T) {
	var out strings.Builder
	r := &report{out: &out}
	c := newConsole(nonce)
	k := kernel{name: "6.1"}
	r.follow(k, c, twoJobs)
	_, _ = c.Write(
		[]byte(
			mark(
				t,
				guest.Mark{Event: guest.Start, Job: "kprobe/lab"},
			) + mark(
				t,
				guest.Mark{Event: guest.End, Job: "kprobe/lab"},
			),
		),
	)
	_, _ = c.Write([]byte("last words\n"))
	r.finish(k, c, twoJobs, c.lost())
	const want = "6.1: pass kprobe/lab (0.0 s)\n" +
		"6.1: FAIL guest: the guest did not boot\n    last words\n" +
		"6.1: FAIL kprobe/live (0.0 s): never ran: the guest did not boot\n"
	if out.String() != want || len(r.rows) != 2 || !r.failed() {
		t.Errorf("printed\n%swant\n%s%d rows, failed: %t", &out, want, len(r.rows), r.failed())
	}
}
