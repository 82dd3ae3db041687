package test

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain/sentence"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/sockets"
	"github.com/closetrace/closetrace/internal/stuck"
	"github.com/closetrace/closetrace/test/documents"
)

var (
	anyProcess = regexp.MustCompile(`\S+\[\d+\]`)
	anyNumber  = regexp.MustCompile(`\d[\d,.]*( (ns|µs|ms|s)\b)?( [a-z]+?)?s?\b`)
)

// The lines of output that the documents show are lines that this version
// prints. Numbers and processes may differ.
func TestSamples(t *testing.T) {
	printed := map[string]bool{}
	recordedEndings(t, func(e *events.Ending) {
		printed[words(e.Title+"  "+e.Cause)] = true
		printed[words(e.Title+"  "+sentence.Chinese(e.Cause))] = true
	})
	checkSamples(t, printed, 8, func(line string) string {
		isLadder := strings.Contains(line, "---") // see TestWhySample
		if isLadder || !regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3} `).MatchString(line) {
			return ""
		}
		return severalEndings.ReplaceAllString(lastCells(line), "")
	})
}

// severalEndings is what a row for several endings has beside that of one: their number, and the low end of ranges.
var severalEndings = regexp.MustCompile(` ×[\d,]+|[\d,.]+( (s|ms|µs))?–`)

// So are those of the audit.
func TestAuditSamples(t *testing.T) {
	s := sink.Summary{MissedProbes: 1, Audit: &sink.Audit{Moved: sink.Counters{"TcpOutRsts": 1}}}
	var text strings.Builder
	if err := s.Print(&text); err != nil {
		t.Fatal(err)
	}
	_, audit, _ := strings.Cut(text.String(), "\naudit: ")
	audit, _, _ = strings.Cut(audit, "\n")
	checkSamples(t, map[string]bool{words("audit: " + audit): true}, 1, func(line string) string {
		if !strings.HasPrefix(line, "audit: ") {
			return ""
		}
		return line
	})
}

// And those of closetrace stuck, with its heads.
func TestStuckSamples(t *testing.T) {
	at := netip.MustParseAddrPort
	listener := sockets.Socket{Local: at("127.0.0.1:9000"), State: events.Listen, Inode: 9, ReceiveQueue: 6, SendQueue: 64}
	holders := map[uint64][]sockets.Holder{
		7: {{PID: 1, Comm: "server", Age: time.Hour, FDs: []int{3}}},
		8: {{PID: 1, Comm: "server", Age: time.Hour, FDs: []int{3}}},
		9: {{PID: 2, Comm: "worker", FDs: []int{3}}},
	}
	snapshot := &sockets.Snapshot{Holders: sockets.HoldersOf(holders), Sockets: sockets.NewList(
		listener,
		sockets.Socket{Local: at("127.0.0.1:8080"), Remote: at("127.0.0.1:1"), State: events.CloseWait, Inode: 7},
		sockets.Socket{Local: at("127.0.0.1:2"), Remote: at("127.0.0.1:5432"), State: events.CloseWait, Inode: 8, ReceiveQueue: 151},
		sockets.Socket{Local: at("127.0.0.1:9000"), Remote: at("127.0.0.1:3"), State: events.CloseWait},
	)}
	var text strings.Builder
	report := stuck.NewReport(snapshot, &stuck.Filter{}, 0)
	if _, err := sink.NewStuck(&text, sink.StuckOptions{}).Print(report); err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(text.String(), "\n")
	printed := map[string]bool{strings.Join(strings.Fields(head), " "): true}
	for _, f := range stuck.Find(snapshot) {
		printed[words(string(f.Diagnosis)+"  "+f.Why)] = true
	}
	checkSamples(t, printed, 4, func(line string) string {
		if strings.HasPrefix(line, "COUNT ") {
			return strings.Join(strings.Fields(line), " ")
		}
		if !regexp.MustCompile(`^ *\d+ +≥`).MatchString(line) {
			return ""
		}
		return lastCells(line)
	})
}

// checkSamples compares the lines of output in the documents with what is
// printed. sample returns what to compare of a line, "" to skip it.
func checkSamples(t *testing.T, printed map[string]bool, least int, sample func(line string) string) {
	t.Helper()
	docs, err := documents.All()
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, d := range docs {
		for _, line := range d.Samples() {
			shown := sample(line)
			if shown == "" {
				continue
			}
			lines++
			if !printed[words(shown)] {
				t.Errorf("%s shows a line that is not printed: %s", d.File, words(shown))
			}
		}
	}
	if lines < least {
		t.Errorf("%d lines were found", lines)
	}
}

// lastCells returns the last two cells of a line of a table.
func lastCells(line string) string {
	cells := regexp.MustCompile(`  +`).Split(strings.TrimSpace(line), -1)
	return strings.Join(cells[len(cells)-2:], "  ")
}

// words returns a text without its numbers and processes.
func words(text string) string {
	return anyNumber.ReplaceAllString(anyProcess.ReplaceAllString(text, "PROCESS"), "N$3")
}
