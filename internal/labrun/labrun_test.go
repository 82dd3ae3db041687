package labrun

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/ladder"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink/table"
)

const scenarioText = `A close with unread data resets.
-- steps --
-- endings --
A close.rst.unread unread_bytes=148
-- counters --
TcpOutRsts +1
-- unseen.tracepoint --
made up
`

func scenario(t *testing.T) *lab.Scenario {
	t.Helper()
	sc, err := lab.Parse("close.rst.unread", []byte(scenarioText))
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

func labRun() (*lab.Result, events.Ending) {
	local, remote := netip.MustParseAddrPort("127.0.0.1:1000"), netip.MustParseAddrPort("127.0.0.1:2000")
	res := &lab.Result{
		Netns: 7, StartNS: 100, EndNS: 200, Counters: map[string]uint64{"TcpOutRsts": 1},
		Sockets: map[string]lab.Endpoint{"A": {Local: local, Remote: remote}},
	}
	return res, events.Ending{
		MonoNS: 150, Netns: 7, Local: local, Remote: remote, Path: "close.rst.unread",
		Cause: "148 B unread", RST: true, Evidence: events.Evidence{UnreadBytes: 148},
	}
}

func TestVerdict(t *testing.T) {
	res, e := labRun()
	sc := scenario(t)
	v := newVerdict(sc, "fentry")
	v.judge(sc, res, []events.Ending{e})
	const want = `pass  close.rst.unread: A close with unread data resets.
      expected  close.rst.unread
      seen      close.rst.unread: 148 B unread
`
	if v.text() != want {
		t.Errorf("got:\n%s", v.text())
	}

	e.Evidence.UnreadBytes = 147
	res.Counters["TcpOutRsts"] = 2
	v = newVerdict(sc, "fentry")
	v.judge(sc, res, []events.Ending{e})
	if v.Verdict != fail || len(v.Mismatches) != 2 || strings.Count(v.text(), "\n      wrong     ") != 2 {
		t.Errorf("one byte and one RST off:\n%s", v.text())
	}

	v = newVerdict(sc, "tracepoint")
	const unseen = "\n      unseen    by tracepoint: made up\n      expected  nothing\n      seen      nothing\n"
	if !strings.Contains(v.text(), unseen) {
		t.Errorf("a mode that does not see it:\n%s", v.text())
	}
}

// The counters must have moved as far as the endings explain; endings that come late are waited for.
func TestVerdictOfCounters(t *testing.T) {
	sc := scenario(t)
	for name, tt := range map[string]struct {
		attach  string
		missing []string
		moved   []uint64 // TcpOutRsts by the endings, call by call
		want    string
	}{
		"explained":      {"fentry", nil, []uint64{1}, ""},
		"explained late": {"fentry", nil, []uint64{0, 1}, ""},
		"not explained":  {"fentry", nil, []uint64{0}, "the kernel's TcpOutRsts moved by 1, but the endings explain 0"},
		"too many":       {"kprobe", nil, []uint64{2}, "the kernel's TcpOutRsts moved by 1, but the endings explain 2"},
		"not seen":       {"tracepoint", nil, []uint64{0}, ""},
		"a hook missing": {"fentry", []string{"tcp_done"}, []uint64{0}, ""},
		"too many of it": {"fentry", []string{"tcp_done"}, []uint64{2}, "moved by 1, but the endings explain 2"},
	} {
		res := &lab.Result{Counters: map[string]uint64{"TcpOutRsts": 1}}
		v := newVerdict(sc, tt.attach)
		calls := 0
		v.judgeExplained(t.Context(), sc, res, tt.missing, func(*lab.Result) (m events.Moved) {
			m[events.OutRsts] = tt.moved[min(calls, len(tt.moved)-1)]
			calls++
			return m
		})
		got := strings.Join(v.Mismatches, "; ")
		if !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") || (v.Verdict == pass) != (tt.want == "") {
			t.Errorf("%s: %s, %q", name, v.Verdict, got)
		}
	}
}

// A scenario is retried only if its failure may be none of closetrace, and not for ever.
func TestRetry(t *testing.T) {
	sc := scenario(t)
	const right, kernelWrong, oursWrong, unseen = 0, 1, 2, 3
	attempt := func(kind int) *verdict {
		res, e := labRun()
		seen := []events.Ending{e}
		switch kind {
		case kernelWrong:
			res.Counters["TcpOutRsts"] = 2
		case oursWrong:
			seen[0].Evidence.UnreadBytes = 147
		case unseen:
			seen = nil
		}
		v := newVerdict(sc, "fentry")
		v.judge(sc, res, seen)
		return v
	}
	const otherPath, lost = "the kernel did not take the provoked path", "records were lost or probes missed"
	for _, tt := range []struct {
		kinds   []int
		became  string
		repeats int
		because string
		lost    bool
	}{
		{[]int{right}, pass, 0, "", true},
		{[]int{oursWrong}, fail, 0, "", false},
		{[]int{oursWrong, right}, pass, 1, lost, true},
		{[]int{oursWrong, oursWrong, oursWrong}, fail, 2, lost, true},
		{[]int{kernelWrong, right}, pass, 1, otherPath, false},
		{[]int{kernelWrong, oursWrong}, fail, 1, otherPath, false},
		{[]int{kernelWrong, kernelWrong, kernelWrong}, fail, 2, otherPath, false},
		{[]int{unseen, right}, pass, 1, "the kernel may have left out a program", false},
		{[]int{unseen, unseen}, fail, 1, "the kernel may have left out a program", false},
	} {
		var stderr bytes.Buffer
		n := 0
		v, err := retry(&stderr, func() (*verdict, error) { n++; return attempt(tt.kinds[n-1]), nil },
			func() bool { return tt.lost })
		line := "closetrace: retrying close.rst.unread: " + tt.because + ": "
		if err != nil || v.Verdict != tt.became || n != len(tt.kinds) || strings.Count(stderr.String(), line) != tt.repeats {
			t.Errorf("%v: %s after %d attempts, %v, stderr:\n%s", tt.kinds, v.Verdict, n, err, &stderr)
		}
	}
}

// Without their names, the scenarios that change a setting of the whole machine do not run, nor in the tour.
func TestOnlyNamed(t *testing.T) {
	all, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(sc *lab.Scenario) bool { return !sc.ChangesMachine() })
	if len(all) == 0 {
		t.Fatal("no scenario changes a setting of the whole machine")
	}
	for _, brief := range []bool{false, true} {
		var out, stderr bytes.Buffer
		r := &runner{tally: tally{out: &out, brief: brief}}
		r.Stream.Stderr = &stderr
		if err := r.runScheduled(t.Context(), all); err != nil || r.tally.counts != (counts{impossible: len(all)}) {
			t.Errorf("%v, %v", err, &r.tally.counts)
		}
		if !brief && strings.Count(out.String(), "not possible here: "+onlyNamed) != len(all) {
			t.Errorf("got:\n%s", &out)
		}
	}
	for _, at := range tour {
		if sc, err := lab.Find(at.scenario()); err != nil || sc.ChangesMachine() {
			t.Errorf("the tour has %s: %v", at.scenario(), err)
		}
	}
}

// A setting of the whole machine that stays changed after ^C is shown.
func TestInterruption(t *testing.T) {
	changed := &lab.NotRestored{Key: "net.ipv4.tcp_max_orphans", Old: "8192", Now: "0", Err: syscall.EACCES}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, "interrupted"},
		{context.Canceled, "interrupted"},
		{errors.Join(context.Canceled, errors.Join(nil, changed)), "interrupted, and net.ipv4.tcp_max_orphans is still 0: " +
			"permission denied; to set it back: sysctl -w net.ipv4.tcp_max_orphans=8192"},
	} {
		if got := interruption(tt.err).Error(); got != tt.want {
			t.Errorf("%v: got %q", tt.err, got)
		}
	}
}

func TestTally(t *testing.T) {
	h := events.Header{Kernel: "6.1.0", Attach: "fentry"}
	for _, tt := range []struct {
		verdicts []string
		code     int
		last     string
	}{
		{[]string{pass, pass, notPossible}, 0, "to trace the whole machine: sudo ./closetrace\n"},
		{[]string{pass, fail}, 1, "1 passed, 1 failed, 0 not possible here, by fentry on 6.1.0\n"},
		{[]string{notPossible}, 1, "0 passed, 0 failed, 1 not possible here, by fentry on 6.1.0\n"},
		{nil, 1, "0 passed, 0 failed, 0 not possible here, by fentry on 6.1.0\n"},
	} {
		var out, stderr bytes.Buffer
		tl := tally{out: &out}
		for i, became := range tt.verdicts {
			if err := tl.add(i, &verdict{Verdict: became}); err != nil {
				t.Fatal(err)
			}
		}
		if code := hint.ExitCode(tl.finish(&stderr, h)); code != tt.code || !strings.HasSuffix(out.String(), tt.last) {
			t.Errorf("%q: exit code %d, out:\n%s", tt.verdicts, code, &out)
		}
	}
}

// The verdicts are printed in the order of the list, also those after one that did not come.
func TestTallyOrder(t *testing.T) {
	var out bytes.Buffer
	tl := tally{out: &out}
	printed := func() string {
		var names []string
		for line := range strings.Lines(out.String()) {
			if name, ok := strings.CutPrefix(line, "pass  "); ok {
				names = append(names, name[:1])
			}
		}
		return strings.Join(names, "")
	}
	for _, step := range []struct {
		place int
		want  string
	}{{2, ""}, {0, "a"}, {1, "abc"}, {5, "abc"}, {4, "abc"}} {
		if err := tl.add(step.place, &verdict{Verdict: pass, Name: string(rune('a' + step.place))}); err != nil {
			t.Fatal(err)
		}
		if got := printed(); got != step.want {
			t.Errorf("after %d: %q, want %q", step.place, got, step.want)
		}
	}
	if err := tl.printAll(); err != nil || printed() != "abcef" {
		t.Errorf("%v, %q", err, printed())
	}
}

// In brief, failures are printed in full, and the others as a line per family.
func TestTallyBrief(t *testing.T) {
	var out bytes.Buffer
	tl := tally{brief: true, out: &out}
	failed := &verdict{Name: "reply.nosocket", Title: "title", Verdict: pass}
	failed.fail("no RST")
	for i, v := range []*verdict{
		{Verdict: pass, Name: "close.rst.unread"}, failed, {Verdict: pass, Name: "close.fin.active"},
		{Verdict: notPossible, Name: "close.rst.oom"},
	} {
		if err := tl.add(i, v); err != nil {
			t.Fatal(err)
		}
	}
	if code := hint.ExitCode(tl.finish(nil, events.Header{Attach: "fentry", Kernel: "6.1.0"})); code != 1 {
		t.Errorf("exit code %d", code)
	}
	const want = `fail  reply.nosocket: title
      expected  nothing
      seen      nothing
      wrong     no RST
  close       2 passed, 0 failed, 1 not possible here
  reply       0 passed, 1 failed, 0 not possible here
2 passed, 1 failed, 1 not possible here, by fentry on 6.1.0
`
	if out.String() != want {
		t.Errorf("got:\n%s", &out)
	}
}

// Each ending of the tour fits a screen of 24 lines and 80 columns, with its cause, in each attach mode.
func TestTour(t *testing.T) {
	for _, at := range tour {
		sc, err := lab.Find(at.scenario())
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range lab.Modes {
			section, ok := sc.Section("events." + mode + ".jsonl")
			if !ok {
				t.Fatalf("%s has no events of mode %s", sc.Name, mode)
			}
			in, err := record.NewReader(bytes.NewReader(section))
			if err != nil {
				t.Fatal(err)
			}
			v := &verdict{Name: sc.Name, Title: sc.Title, Verdict: pass}
			keep := func(e *events.Ending) { v.endings = append(v.endings, *e) }
			c := classify.New(in.Header)
			for ev, err := range in.Events() {
				if err != nil {
					t.Fatal(err)
				}
				c.Push(ev, keep)
			}
			c.Flush(keep)
			r := &runner{Options: Options{Layout: ladder.Layout{Width: 80}}}
			screen := r.screen(&at, v)
			if !strings.Contains(screen, "("+string(at.path)+")\n") || strings.Count(screen, "\n") > 22 {
				t.Errorf("%s by %s:\n%s", sc.Name, mode, screen)
			}
			for line := range strings.Lines(screen) {
				if table.Width(line) > 80+len("\n") {
					t.Errorf("%s by %s: %s", sc.Name, mode, line)
				}
			}
			v.fail("made up")
			if got := r.screen(&at, v); !strings.Contains(got, "wrong     made up\n") {
				t.Errorf("a failure is hidden:\n%s", got)
			}
		}
	}
}

func TestTallyJSON(t *testing.T) {
	var out, stderr bytes.Buffer
	tl := tally{json: true, out: &out}
	if err := tl.add(0, newVerdict(scenario(t), "fentry")); err != nil {
		t.Fatal(err)
	}
	if err := tl.finish(&stderr, events.Header{}); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got["verdict"] != "pass" {
		t.Errorf("%v: %s", err, &out)
	}
	if !strings.HasPrefix(stderr.String(), "1 passed") {
		t.Errorf("stderr %q", &stderr)
	}
}

// The collector returns the endings of the scenario's own namespace, window and families.
func TestCollector(t *testing.T) {
	res, e := labRun()
	sc := &lab.Scenario{Families: lab.Families}
	var c collector
	for _, change := range []func(*events.Ending){
		func(*events.Ending) {},
		func(e *events.Ending) { e.Netns = 8 },
		func(e *events.Ending) { e.MonoNS = 99 },
		func(e *events.Ending) { e.MonoNS = 201 },
		func(e *events.Ending) { e.Path = "reply.rst.closed" },
	} {
		other := e
		change(&other)
		if err := c.Write(&other); err != nil {
			t.Fatal(err)
		}
	}
	if seen := c.endings(sc, res); len(seen) != 1 || seen[0].Path != e.Path {
		t.Errorf("seen: %+v", seen)
	}
	c.drop(res)
	if seen := c.endings(sc, res); len(seen) != 0 {
		t.Errorf("after drop: %+v", seen)
	}
}

// The recording of a scenario is one as any other, with the result beside the header.
func TestWriteRecording(t *testing.T) {
	res, _ := labRun()
	dir := t.TempDir()
	h := events.Header{Schema: events.SchemaVersion, Kernel: "6.1.0", Attach: "kprobe", HZ: 250}
	facts := []events.Event{{Kind: events.KindClose, MonoNS: 150, Netns: 7}}
	if err := writeRecording(dir, scenario(t), h, res, facts); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "close.rst.unread", "events.kprobe.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	first, err := bufio.NewReader(bytes.NewReader(text)).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var head recordingHeader
	if err := json.Unmarshal(first, &head); err != nil || head.Run.Netns != 7 || head.Kernel != "6.1.0" {
		t.Errorf("%v: %s", err, first)
	}
	rd, err := record.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for ev, err := range rd.Events() {
		if err != nil || ev.MonoNS != 150 {
			t.Errorf("%v: %+v", err, ev)
		}
	}
}
