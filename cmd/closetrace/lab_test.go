package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/record"
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
	if !strings.Contains(v.text(), "\n      unseen    by tracepoint: made up\n      expected  nothing\n      seen      nothing\n") {
		t.Errorf("a mode that does not see it:\n%s", v.text())
	}
}

// A scenario is provoked again only if the kernel, and not closetrace, did
// something else, and not for ever.
func TestAgain(t *testing.T) {
	sc := scenario(t)
	const right, kernelWrong, oursWrong = 0, 1, 2
	attempt := func(kind int) *verdict {
		res, e := labRun()
		switch kind {
		case kernelWrong:
			res.Counters["TcpOutRsts"] = 2
		case oursWrong:
			e.Evidence.UnreadBytes = 147
		}
		v := newVerdict(sc, "fentry")
		v.judge(sc, res, []events.Ending{e})
		return v
	}
	for _, tt := range []struct {
		kinds   []int
		became  string
		repeats int
	}{
		{[]int{right}, pass, 0},
		{[]int{oursWrong}, fail, 0},
		{[]int{kernelWrong, right}, pass, 1},
		{[]int{kernelWrong, oursWrong}, fail, 1},
		{[]int{kernelWrong, kernelWrong, kernelWrong}, fail, 2},
	} {
		var said bytes.Buffer
		n := 0
		v, err := again(&said, func() (*verdict, error) { n++; return attempt(tt.kinds[n-1]), nil })
		if err != nil || v.Verdict != tt.became || n != len(tt.kinds) || strings.Count(said.String(), " once more, as the kernel") != tt.repeats {
			t.Errorf("%v: %s after %d attempts, %v, said:\n%s", tt.kinds, v.Verdict, n, err, &said)
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
		{[]string{pass, pass, notPossible}, exitOK, "to trace the whole machine: sudo ./closetrace\n"},
		{[]string{pass, fail}, exitFailed, "1 passed, 1 failed, 0 not possible here, by fentry on 6.1.0\n"},
		{[]string{notPossible}, exitFailed, "0 passed, 0 failed, 1 not possible here, by fentry on 6.1.0\n"},
		{nil, exitFailed, "0 passed, 0 failed, 0 not possible here, by fentry on 6.1.0\n"},
	} {
		var out, said bytes.Buffer
		tl := tally{format: formatTable, out: &out}
		for _, became := range tt.verdicts {
			if err := tl.add(&verdict{Verdict: became}); err != nil {
				t.Fatal(err)
			}
		}
		if code := finish(&said, tl.finish(&said, h)); code != tt.code || !strings.HasSuffix(out.String(), tt.last) {
			t.Errorf("%q: exit code %d, out:\n%s", tt.verdicts, code, &out)
		}
	}
}

func TestTallyJSON(t *testing.T) {
	var out, said bytes.Buffer
	tl := tally{format: formatJSON, out: &out}
	if err := tl.add(newVerdict(scenario(t), "fentry")); err != nil {
		t.Fatal(err)
	}
	if err := tl.finish(&said, events.Header{}); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got["verdict"] != "pass" {
		t.Errorf("%v: %s", err, &out)
	}
	if !strings.HasPrefix(said.String(), "1 passed") {
		t.Errorf("said %q", &said)
	}
}

// The witness tells of the scenario's own namespace, window and families.
func TestWitness(t *testing.T) {
	res, e := labRun()
	sc := &lab.Scenario{Families: lab.Families}
	var w witness
	for _, change := range []func(*events.Ending){
		func(*events.Ending) {},
		func(e *events.Ending) { e.Netns = 8 },
		func(e *events.Ending) { e.MonoNS = 99 },
		func(e *events.Ending) { e.MonoNS = 201 },
		func(e *events.Ending) { e.Path = "reply.rst.closed" },
	} {
		other := e
		change(&other)
		if err := w.Write(&other); err != nil {
			t.Fatal(err)
		}
	}
	if seen := w.endings(sc, res); len(seen) != 1 || seen[0].Path != e.Path {
		t.Errorf("seen: %+v", seen)
	}
	w.forget(res)
	if seen := w.endings(sc, res); len(seen) != 0 {
		t.Errorf("after forgetting: %+v", seen)
	}
}

// What is kept of a scenario is a record, with the run beside the header.
func TestKeep(t *testing.T) {
	res, _ := labRun()
	dir := t.TempDir()
	h := events.Header{Schema: events.SchemaVersion, Kernel: "6.1.0", Attach: "kprobe", HZ: 250}
	facts := []events.Event{{Kind: events.KindClose, MonoNS: 150, Netns: 7}}
	if err := keep(dir, scenario(t), h, res, facts); err != nil {
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
	var head recordHead
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
