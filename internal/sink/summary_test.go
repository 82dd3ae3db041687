package sink

import (
	"bytes"
	"testing"
	"time"
)

func TestSummary(t *testing.T) {
	s := Summary{Took: 12345678 * time.Microsecond, LostRecords: 1, MissedProbes: 1234567, Suppressed: 4000, Undecodable: 2, Unexplained: 3}
	for range 1200 {
		s.Add(samples()[1])
	}
	for _, e := range samples() {
		s.Add(e)
	}
	var out bytes.Buffer
	if err := s.Print(&out); err != nil {
		t.Fatal(err)
	}
	golden(t, "summary.txt", out.Bytes())
	if s.Endings() != 1209 {
		t.Errorf("%d endings", s.Endings())
	}
}

func TestSummaryOfNothing(t *testing.T) {
	var out bytes.Buffer
	s := Summary{Took: time.Second}
	if err := s.Print(&out); err != nil {
		t.Fatal(err)
	}
	const want = "0 endings in 1s\n0 records lost, 0 probes missed\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
