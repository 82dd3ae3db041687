package record

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

var header = events.Header{Schema: events.SchemaVersion, Kernel: "6.1.0", Attach: "fentry", HZ: 250, WallOffsetNS: 5}

func TestRoundTrip(t *testing.T) {
	want := []events.Event{
		{Kind: events.KindClose, MonoNS: 1, Flags: events.SentRST | events.TaskContext, Before: events.Established,
			After: events.Close, Local: netip.MustParseAddrPort("10.0.0.5:443"), Remote: netip.MustParseAddrPort("[::ffff:1.2.3.4]:80"),
			Task: events.Task{PID: 1, Comm: "a\x1b[31m\xffb"}, UnreadBytes: 148},
		{Kind: events.KindWaitOver, MonoNS: 2, Signal: 15},
	}
	var b bytes.Buffer
	w, err := NewWriter(&b, header)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if err := w.Write(&want[i]); err != nil {
			t.Fatal(err)
		}
	}
	r, err := NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	if r.Header.Kernel != header.Kernel || r.Header.HZ != header.HZ {
		t.Errorf("header %+v", r.Header)
	}
	var got []events.Event
	for ev, err := range r.Events() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, *ev)
	}
	want[0].Task.Comm = "a\x1b[31m\uFFFDb" // JSON holds text; what is no text is marked as such
	if len(got) != len(want) || !reflect.DeepEqual(got, want) {
		t.Errorf("read\n%+v\nwrote\n%+v", got, want)
	}
}

func TestDamage(t *testing.T) {
	good := `{"schema_version":1,"kernel":"x","attach":"fentry","hooks":null,"hz":250,"wall_offset_ns":0}` + "\n"
	event := `{"kind":"close","mono_ns":1,"flags":"fin","before":"ESTABLISHED","after":"FIN_WAIT1"}` + "\n"
	tests := []struct {
		name, text string
		events     int
		wantErr    string
	}{
		{"whole", good + event + event, 2, ""},
		{"cut in the middle of an event", good + event + event[:30], 1, "line 3"},
		{"an unknown kind", good + strings.Replace(event, `"close"`, `"zzz"`, 1), 0, "zzz"},
		{"an unknown flag", good + strings.Replace(event, `"fin"`, `"fun"`, 1), 0, "fun"},
		{"an unknown state", good + strings.Replace(event, "ESTABLISHED", "EST", 1), 0, "EST"},
		{"a line without end", good + strings.Repeat("x", maxLine+1), 0, "line 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := NewReader(strings.NewReader(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, err = range r.Events() {
				if err == nil {
					n++
				}
			}
			if n != tt.events || (err == nil) != (tt.wantErr == "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("%d events, error %v; want %d and %q", n, err, tt.events, tt.wantErr)
			}
		})
	}
	for _, head := range []string{"", "{}\n", "x\n", `{"schema_version":99}` + "\n"} {
		if _, err := NewReader(strings.NewReader(head)); err == nil {
			t.Errorf("header %q was accepted", head)
		}
	}
}
