package sink

import (
	"slices"
	"testing"
)

func TestBothEndsLines(t *testing.T) {
	two := []Clock{{Label: "web1"}, {Label: "db1", Samples: 1}}
	for want, b := range map[string]*BothEnds{
		"both ends: 1 connection joined; 1 more RST by its numbers; 1 ending beyond the limit, not compared": {
			Joined: 1, Resets: 1, Beyond: 1, Clocks: two,
		},
		"both ends: 2 connections joined; 1 of them by address; 2 more RSTs by their numbers; " +
			"3 ambiguous, not joined; 4 with one end only; 1,000 endings beyond the limit, not compared": {
			Joined: 2, ByAddress: 1, Resets: 2, Ambiguous: 3, OneEnd: 4, Beyond: 1000, Clocks: two,
		},
	} {
		if lines := b.Lines(); !slices.Contains(lines, want) {
			t.Errorf("%q, want %q", lines, want)
		}
	}
}
