package sink

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// line is what a program sees of an ending.
type line struct {
	Schema     int       `json:"schema_version"`
	Time       time.Time `json:"time"`
	MonoNS     uint64    `json:"mono_ns"`
	Path       string    `json:"path"`
	Cause      string    `json:"cause"`
	Confidence string    `json:"confidence"`
	Doubt      string    `json:"doubt"`
	Trigger    string    `json:"trigger"`
	Signal     int       `json:"signal"`
	Actor      *struct {
		PID  uint32 `json:"pid"`
		Comm string `json:"comm"`
	} `json:"actor"`
	Owner *struct {
		PID uint32 `json:"pid"`
	} `json:"owner"`
	Local  string `json:"local"`
	Remote string `json:"remote"`
	Family string `json:"family"`
	Netns  uint32 `json:"netns"`
	State  struct {
		Before string `json:"before"`
		After  string `json:"after"`
	} `json:"state"`
	FIN          bool              `json:"fin"`
	RST          bool              `json:"rst"`
	RSTReceived  bool              `json:"rst_received"`
	KernelReason string            `json:"kernel_reason"`
	Evidence     map[string]uint64 `json:"evidence"`
	DurationNS   uint64            `json:"duration_ns"`
}

func TestJSONL(t *testing.T) {
	var out bytes.Buffer
	j := NewJSONL(&out)
	for _, e := range samples() {
		if err := j.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if out.Len() != 0 {
		t.Error("written before the flush")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(out.Bytes(), []byte("\n")), []byte("\n"))
	if len(lines) != len(samples()) {
		t.Fatalf("%d lines for %d endings", len(lines), len(samples()))
	}
	for i, e := range samples() {
		var l line
		if err := json.Unmarshal(lines[i], &l); err != nil {
			t.Fatalf("%s: %v", lines[i], err)
		}
		if !l.Time.Equal(e.Time) || l.MonoNS != e.MonoNS || l.Path != string(e.Path) || l.Cause != e.Cause ||
			l.Confidence != e.Confidence() || l.Doubt != e.Doubt || l.Trigger != string(e.Trigger) || l.Signal != e.Signal {
			t.Errorf("the verdict of %s does not survive", lines[i])
		}
		if l.Local != e.Local.String() || l.Remote != e.Remote.String() || l.Family != e.Family() || l.Netns != e.Netns {
			t.Errorf("the connection of %s does not survive", lines[i])
		}
		if l.State.Before != e.Before.String() || l.State.After != e.After.String() || l.FIN != e.FIN || l.RST != e.RST ||
			l.RSTReceived != (e.Path == events.RecvRST) || l.KernelReason != e.KernelReason || l.DurationNS != e.DurationNS {
			t.Errorf("what the kernel did in %s does not survive", lines[i])
		}
		if l.Evidence["unread_bytes"] != uint64(e.Evidence.UnreadBytes) || l.Evidence["bytes_sent"] != e.Evidence.BytesSent ||
			l.Evidence["bytes_received"] != e.Evidence.BytesReceived {
			t.Errorf("the evidence of %s does not survive", lines[i])
		}
		if (l.Actor == nil) != (e.Actor == nil) || l.Actor != nil && l.Actor.PID != e.Actor.PID {
			t.Errorf("the actor of %s does not survive", lines[i])
		}
		if (l.Owner == nil) != (e.Owner == nil) || l.Owner != nil && l.Owner.PID != e.Owner.PID {
			t.Errorf("the owner of %s does not survive", lines[i])
		}
	}
}

func TestJSONLWritesLargeBatchesByItself(t *testing.T) {
	var out bytes.Buffer
	j := NewJSONL(&out)
	for n := 0; out.Len() == 0 && n < 10_000; n++ {
		if err := j.Write(samples()[0]); err != nil {
			t.Fatal(err)
		}
	}
	if n := out.Len(); n < 64<<10 || n > 66<<10 {
		t.Errorf("the first batch has %d bytes, want 64 KiB and at most one line more", n)
	}
	if !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
		t.Error("a batch ends within a line")
	}
}

func BenchmarkJSONL(b *testing.B) {
	j := NewJSONL(discard{})
	e := samples()[0]
	b.ReportAllocs()
	for b.Loop() {
		if err := j.Write(e); err != nil {
			b.Fatal(err)
		}
	}
}
