package test

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/ladder"
	"github.com/closetrace/closetrace/internal/logline"
	"github.com/closetrace/closetrace/internal/sink/table"
	"github.com/closetrace/closetrace/internal/why"
	"github.com/closetrace/closetrace/test/documents"
)

// reused are the scenarios in which two connections have the same addresses, one after the other.
var reused = []string{"recv.rst_again", "reply.synsent-badack"}

// closetrace why finds each connection of each recorded scenario by its addresses, as one connection, and its answer
// fits a terminal.
func TestWhyOfScenarios(t *testing.T) {
	library, err := explain.Open()
	if err != nil {
		t.Fatal(err)
	}
	eachConnection(t, func(name string, c *why.Collector, all []*events.Ending) {
		want := 1
		if slices.ContainsFunc(reused, func(of string) bool { return strings.HasPrefix(name, of) }) {
			want = 2
		}
		if n := c.Found(); n != want {
			t.Errorf("%s: %d connections, want %d", name, n, want)
		}
		checkAnswer(t, name, c.Print(library, why.Layout{Width: 80, ASCII: true}), all)
	})
}

// eachConnection asks about each connection of each recorded scenario by its addresses. The name begins with that of
// the scenario.
func eachConnection(t *testing.T, do func(name string, c *why.Collector, all []*events.Ending)) {
	t.Helper()
	found := 0
	for at, section := range recordings(t) {
		all := endingsOf(t, section)
		for _, ends := range connectionsOf(all) {
			c := why.New(why.Query{Line: logline.Parse(ends)})
			for _, e := range all {
				if err := c.Write(e); err != nil {
					t.Fatal(err)
				}
			}
			do(at.scenario.Name+" "+at.mode+" "+ends, c, all)
			found++
		}
	}
	if found < 300 {
		t.Errorf("only %d connections were found", found)
	}
}

// docs/why.md shows what closetrace why prints of the recording that its commands read.
func TestWhySample(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	page, err := os.ReadFile("../docs/why.md")
	if err != nil {
		t.Fatal(err)
	}
	library, err := explain.Open()
	if err != nil {
		t.Fatal(err)
	}
	_, sample, _ := strings.Cut(string(page), "\n```\n\n```\n")
	sample, _, _ = strings.Cut(sample, "```\n")
	c := why.New(why.Query{Line: logline.Parse("10.0.0.5:33042 10.0.0.9:443")})
	for _, e := range endingsOf(t, documents.Night()) {
		if err := c.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.Print(library, why.Layout{}); sample == "" || !strings.HasPrefix(got, sample) {
		t.Errorf("docs/why.md shows\n%s\nbut closetrace prints\n%s", sample, got)
	}
}

func checkAnswer(t *testing.T, name, answer string, all []*events.Ending) {
	t.Helper()
	for _, section := range []string{"\nWhat each application gets\n", "\nWhy\n", "\nNext\n    closetrace explain "} {
		if !strings.Contains(answer, section) {
			t.Errorf("%s: without %q:\n%s", name, section, answer)
		}
	}
	for line := range strings.Lines(answer) {
		if width := table.Width(strings.TrimSuffix(line, "\n")); width > 80 {
			t.Errorf("%s: %d cells: %s", name, width, line)
		}
		if strings.IndexFunc(line, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
			t.Errorf("%s: not ASCII: %s", name, line)
		}
	}
}

// Each RST and FIN that an end sent is in the ladder once. One that was only seen by its receiver is, too.
func TestSegmentsOfLadders(t *testing.T) {
	for at, section := range recordings(t) {
		all := endingsOf(t, section)
		for _, ends := range connectionsOf(all) {
			of := slices.DeleteFunc(slices.Clone(all), func(e *events.Ending) bool { return connectionOf(e) != ends })
			checkSegments(t, at.scenario.Name+" "+at.mode, of)
		}
	}
}

// segmentKey is a kind of segment and the address of its sender.
type segmentKey struct{ from, label string }

func checkSegments(t *testing.T, name string, of []*events.Ending) {
	t.Helper()
	model := ladder.New(of)
	drawn, sent, received := map[segmentKey]int{}, map[segmentKey]int{}, map[segmentKey]int{}
	for _, step := range model.Steps {
		for _, s := range step.Segments {
			drawn[segmentKey{model.Ends[s.From].Name, s.Label}]++
		}
	}
	for _, e := range of {
		local, remote := ladder.Address(e.Local), ladder.Address(e.Remote)
		if e.RST {
			sent[segmentKey{local, "RST"}]++
		}
		if e.FIN && !e.Evidence.FINUnsent {
			sent[segmentKey{local, "FIN"}]++
		}
		if e.ReceivedRST() {
			received[segmentKey{remote, "RST"}] = 1
		}
		if e.Path == events.RecvFIN || e.Evidence.PeerFINAgo > 0 {
			received[segmentKey{remote, "FIN"}] = 1
		}
	}
	for _, end := range model.Ends {
		for _, label := range []string{"RST", "FIN"} {
			key := segmentKey{end.Name, label}
			want := sent[key]
			if want == 0 {
				want = received[key]
			}
			if drawn[key] != want {
				t.Errorf("%s: %d times %s of %s, want %d\n%s", name, drawn[key], label, end.Name, want,
					model.Text(ladder.Layout{}))
			}
		}
	}
}

func endingsOf(t *testing.T, section []byte) (all []*events.Ending) {
	t.Helper()
	header, _, recorded := recording(t, section)
	c := classify.New(header)
	keep := func(e *events.Ending) {
		kept := *e
		all = append(all, &kept)
	}
	for i := range recorded {
		c.Push(&recorded[i], keep)
	}
	c.Flush(keep)
	return all
}

// connectionOf returns the ends of an ending's connection, the same for both ends; "" if it is of none.
func connectionOf(e *events.Ending) string {
	if e.Remote.Port() == 0 {
		return ""
	}
	ends := []netip.AddrPort{e.Local, e.Remote}
	slices.SortFunc(ends, netip.AddrPort.Compare)
	return ends[0].String() + " " + ends[1].String()
}

func connectionsOf(all []*events.Ending) (connections []string) {
	for _, e := range all {
		if ends := connectionOf(e); ends != "" && !slices.Contains(connections, ends) {
			connections = append(connections, ends)
		}
	}
	return connections
}
