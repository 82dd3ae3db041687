//go:build linux

package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// sample is a run with round numbers: untraced 1,000, closetrace adds 50 and 30, the floor 10 and 5, a peer 400.
func sample() *results {
	of := func(name string, k kind, mechanism string, inline, tracer float64) measurement {
		return measurement{
			Tracer: name, Kind: k, Mechanism: mechanism, Mix: mixFIN, Closes: 2,
			Runs: []repeat{{inline + 1, tracer}, {inline, tracer}, {inline - 2, tracer}},
		}
	}
	rejects := of("fentry, filter rejects", kindOurs, "fentry", 1040, 0)
	quiet := of("fentry, only RSTs", kindOurs, "fentry", 1020, 20)
	peer := of("tcplife", kindPeer, "fentry", 1100, 300)
	return &results{Kernel: "6.12", Measurements: []measurement{
		of(untraced, kindNone, "", 1000, 0),
		of("fentry, json", kindOurs, "fentry", 1050, 30), quiet, rejects,
		of("floor fentry", kindFloor, "fentry", 1010, 5), peer,
		{Tracer: "tcpstates", Kind: kindPeer, Mix: mixFIN, Absent: "libbpf-tools"},
	}}
}

func TestCosts(t *testing.T) {
	r := sample()
	c := r.cost(r.find("fentry, json", mixFIN))
	if c.inline != 50 || c.tracer != 30 || c.inlineRatio != 1.05 || c.wholeRatio != 1.08 {
		t.Errorf("cost %+v", c)
	}
	if got := r.find(untraced, mixFIN).spread(); got != 3 {
		t.Errorf("spread %v, want 3", got)
	}
	if got := r.lightestPeer("fentry").Tracer; got != "tcplife" {
		t.Errorf("lightest peer %q", got)
	}
	verdicts := map[string]string{}
	for _, b := range r.budgets() {
		verdicts[b.mode+": "+b.what] = b.verdict()
	}
	for what, want := range map[string]string{
		"fentry: -o json, inline":                          "missed", // 1.05
		"fentry: -o json, all endings":                     "met",    // 1.08
		"fentry: quiet tier (--only rst)":                  "missed", // 1.04
		"fentry: quiet tier, to what tcplife adds":         "met",    // 0.1
		"fentry: filter rejects, to reported":              "missed", // 0.5
		"fentry: inline, to the lightest peer of the mode": "met",    // 0.5
	} {
		if verdicts[what] != want {
			t.Errorf("%s: %q, want %s", what, verdicts[what], want)
		}
	}
}

func TestReport(t *testing.T) {
	var b strings.Builder
	if err := sample().write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\nuntraced             1,000\n",
		"\nfentry, json       50 + 30\n",
		"\nfentry, json        1.050  1.080       3",
		"\n-o json, inline                           1.050 of 1.040, missed\n",
		"Not measured: tcpstates, the mix linger0,",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
}

// The document has what the last whole run found.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../" + resultsFile)
	if err != nil {
		t.Fatal(err)
	}
	var r results
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	if err := r.write(&want); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../" + document)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), begin+want.String()+end) {
		t.Errorf("%s does not have the results of %s: go run ./test/bench report", document, resultsFile)
	}
	if lines := strings.Count(string(doc), "\n"); lines > 90 {
		t.Errorf("%s has %d lines, at most 90 are allowed", document, lines)
	}
}

func TestLost(t *testing.T) {
	for output, want := range map[string]int{
		"12 endings in 2s\n1,204 records lost, 0 probes missed\n": 1204,
		"Lost 17 events\nLost 3 events\n":                         20,
		"lost 5 events on CPU #0!\n":                              5,
		"0 records lost, 2 probes missed":                         0,
	} {
		if got := lost(output); got != want {
			t.Errorf("lost(%q) = %d, want %d", output, got, want)
		}
	}
}

func TestLibraries(t *testing.T) {
	const ldd = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x00007f)\n" +
		"\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n"
	want := []string{"/lib/x86_64-linux-gnu/libelf.so.1", "/lib64/ld-linux-x86-64.so.2"}
	if got := libraries(ldd); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestRingRecords(t *testing.T) {
	data := make([]byte, 128)
	data[0], data[24] = 13, 40 // 8 + 13 in 24 bytes, 8 + 40 in 48
	r := ring{size: 64, producer: []byte{72, 0, 0, 0, 0, 0, 0, 0}, data: data}
	if got := r.records(0); got != 0 {
		t.Errorf("%d records of more than the ring holds", got)
	}
	r.size = 128
	if got := r.records(0); got != 2 {
		t.Errorf("%d records, want 2", got)
	}
}
