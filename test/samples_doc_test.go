package test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/test/documents"
)

var (
	anyProcess = regexp.MustCompile(`\S+\[\d+\]`)
	anyNumber  = regexp.MustCompile(`\d[\d,.]*( (ns|µs|ms|s)\b)?( [a-z]+?)?s?\b`)
)

// The lines of endings that the documents show are lines that this version
// prints: each has the words of a recorded scenario's ending. Numbers and
// processes may be others.
func TestSamples(t *testing.T) {
	printed := map[string]bool{}
	recordedEndings(t, func(e *events.Ending) { printed[words(e.Title+"  "+e.Cause)] = true })
	docs, err := documents.All()
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, d := range docs {
		for _, line := range d.Samples() {
			row := lastCells(line)
			if row == "" {
				continue
			}
			rows++
			if !printed[words(row)] {
				t.Errorf("%s shows a line that no scenario prints: %s", d.File, words(row))
			}
		}
	}
	if rows < 8 {
		t.Errorf("%d lines were found", rows)
	}
}

// lastCells are PATH and WHY of a line of the table, "" if it is none.
func lastCells(line string) string {
	if !regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3} `).MatchString(line) {
		return ""
	}
	cells := regexp.MustCompile(`  +`).Split(strings.TrimSpace(line), -1)
	return strings.Join(cells[len(cells)-2:], "  ")
}

// words is a text without its numbers and processes.
func words(text string) string {
	return anyNumber.ReplaceAllString(anyProcess.ReplaceAllString(text, "SOMEBODY"), "N$3")
}
