package sink

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

func TestSummaryAsJSON(t *testing.T) {
	s := Summary{
		Took: time.Second, LostRecords: 1, MissedProbes: 2, Suppressed: 3, Undecodable: 4, Unexplained: 5, Unwritten: 6,
		Counted: map[events.Path]uint64{events.CloseFINActive: 7},
	}
	s.Add(&events.Ending{Path: events.CloseRSTUnread, RST: true})
	s.Add(&events.Ending{Path: events.CloseRSTUnread, RST: true})
	s.Add(&events.Ending{Path: events.RecvRST})
	s.LeaveOut(&events.Ending{})
	var out strings.Builder
	if err := s.PrintJSON(&out, events.Header{Host: "db1", BootID: "1"}); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil || strings.Count(out.String(), "\n") != 1 {
		t.Fatalf("%v in %s", err, &out)
	}
	if _, err := time.Parse(time.RFC3339, got["time"].(string)); err != nil {
		t.Error(err)
	}
	delete(got, "time")
	want := map[string]any{
		"schema_version": 1.0, "kind": "summary", "host": "db1", "boot_id": "1", "took_ns": 1e9, "endings": 3.0,
		"left_out": 1.0, "counted_only": 7.0, "lost_records": 1.0, "missed_probes": 2.0, "replies_left_out": 3.0,
		"not_decoded": 4.0, "not_explained": 5.0, "not_written": 6.0,
		"paths": map[string]any{
			"close.rst.unread": map[string]any{"endings": 2.0, "fin_sent": 0.0, "rst_sent": 2.0, "rst_received": 0.0},
			"recv.rst":         map[string]any{"endings": 1.0, "fin_sent": 0.0, "rst_sent": 0.0, "rst_received": 1.0},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
