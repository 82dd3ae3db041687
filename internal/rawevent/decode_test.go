package rawevent

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
)

var testDecoder = Decoder{
	ResetReason: func(n uint32) string { return map[uint32]string{11: "TCP_ABORT_ON_CLOSE"}[n] },
	Syscall: func(n int32, compat bool) string {
		if n == 3 && !compat {
			return "close"
		}
		return ""
	},
}

// raw is what the kernel side would have put into the ring buffer.
func raw(t testing.TB, w event) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, w); err != nil {
		t.Fatal(err)
	}
	if b.Len() != recordSize {
		t.Fatalf("the generated struct is written as %d bytes and laid out as %d", b.Len(), recordSize)
	}
	return b.Bytes()
}

// An outline has what a recording needs beside the record, whatever the kind, and refuses what decode refuses.
func TestOutline(t *testing.T) {
	d := testDecoder
	for kind := events.Kind(0); kind < 20; kind++ {
		w := event{
			Progress: progress{
				TimeNs: 7, Flags: uint32(events.SentRST | events.TaskContext), KernelReason: 11, Kind: uint8(kind),
			},
			Endpoints: endpoints{Sock: 1, Listener: 2, CgroupId: 3, SocketCgroupId: 4, Inode: 5, Syscall: 3, Stack: -1},
		}
		outline := events.Event{Owner: new(events.Task), Inode: 9} // of the last event
		var whole events.Event
		record := raw(t, w)
		err, wholeErr := d.Outline(record, &outline), d.Decode(record, &whole)
		if fmt.Sprint(err) != fmt.Sprint(wholeErr) {
			t.Fatalf("kind %d: %v, but %v", kind, err, wholeErr)
		}
		if err != nil {
			continue
		}
		switch kind {
		case events.KindClose, events.KindShutdown, events.KindPeerFIN:
			want := events.Event{
				Kind: kind, MonoNS: 7, Flags: whole.Flags, Sock: 1, Listener: 2, CgroupID: 3, SocketCgroupID: 4,
				Syscall: "close", KernelReason: "TCP_ABORT_ON_CLOSE",
			}
			want.Flags &^= events.PeerFIN // which decode adds for people
			if !reflect.DeepEqual(outline, want) {
				t.Errorf("kind %d: %+v", kind, outline)
			}
		default:
			if !reflect.DeepEqual(outline, whole) {
				t.Errorf("kind %d: %+v, decoded %+v", kind, outline, whole)
			}
		}
	}
	if err := d.Outline(make([]byte, recordSize-1), new(events.Event)); !hint.Is(err, hint.Undecodable) {
		t.Errorf("a short record: %v", err)
	}
}

func TestDecode(t *testing.T) {
	w := event{
		Progress: progress{
			TimeNs: 7, Flags: uint32(events.SentRST | events.TaskContext), KernelReason: 11, ReceiveQueue: 148, BytesReceived: 200,
			LocalPort: 443, Kind: uint8(events.KindClose), Before: uint8(events.Established), After: uint8(events.Close),
		},
		Endpoints: endpoints{
			Pid: 10, Tid: 11, Uid: 12, Syscall: 3, Family: 2, RemotePort: 51234,
			Local: [16]uint8{10, 0, 0, 5}, Remote: [16]uint8{10, 0, 0, 9}, Comm: [16]uint8{'n', 'g', 'i', 'n', 'x'},
		},
	}
	var ev events.Event
	if err := testDecoder.Decode(raw(t, w), &ev); err != nil {
		t.Fatal(err)
	}
	if ev.Local.String() != "10.0.0.5:443" || ev.Remote.String() != "10.0.0.9:51234" {
		t.Errorf("addresses %v %v", ev.Local, ev.Remote)
	}
	if ev.KernelReason != "TCP_ABORT_ON_CLOSE" || ev.Syscall != "close" || ev.UnreadBytes != 148 {
		t.Errorf("reason %q, syscall %q, unread %d", ev.KernelReason, ev.Syscall, ev.UnreadBytes)
	}
	if want := (events.Task{PID: 10, TID: 11, UID: 12, Comm: "nginx"}); ev.Task != want {
		t.Errorf("task %+v, want %+v", ev.Task, want)
	}
}

// The headers of a RST are there if the kernel side saw it, whatever their values.
func TestDecodeReceivedRST(t *testing.T) {
	w := event{
		Progress: progress{
			Kind: uint8(events.KindDone), SegmentSeq: 1, SegmentAck: 2, SegmentFlags: 0x14, SrttUs: 42, Retransmitted: 3,
		},
		Endpoints: endpoints{RstTtl: 33},
	}
	var ev events.Event
	if err := testDecoder.Decode(raw(t, w), &ev); err != nil {
		t.Fatal(err)
	}
	if ev.RST == nil || *ev.RST != (events.RSTHeaders{TTL: 33}) {
		t.Errorf("headers %+v", ev.RST)
	}
	w.Endpoints.RstWindow, w.Endpoints.RstIpId, w.Endpoints.RstOptions = 512, 4660, 1<<8
	if err := testDecoder.Decode(raw(t, w), &ev); err != nil {
		t.Fatal(err)
	}
	if want := (events.RSTHeaders{TTL: 33, Window: 512, IPID: 4660, Options: 1 << 8}); ev.RST == nil || *ev.RST != want {
		t.Errorf("headers %+v, want %+v", ev.RST, want)
	}
	if ev.SegmentSeq != 1 || ev.SegmentAck != 2 || ev.SegmentFlags != 0x14 || ev.SRTTUS != 42 || ev.Retransmitted != 3 {
		t.Errorf("%+v", ev)
	}
	w.Endpoints.RstTtl = 0
	if err := testDecoder.Decode(raw(t, w), &ev); err != nil || ev.RST != nil {
		t.Errorf("%v, headers %+v of a RST that was not seen", err, ev.RST)
	}
}

// What an MPTCP connection did not read is added to what its subflow has not passed on. The result of the RST itself
// means nothing.
func TestDecodeMPTCPReset(t *testing.T) {
	for flags, want := range map[events.Flags]uint32{events.MPTCP: 58, events.MPTCP | events.PeerFIN: 57, 0: 1} {
		w := event{Progress: progress{
			Kind: uint8(events.KindReset), Flags: uint32(flags | events.SentRST), Before: uint8(events.Established),
			ReceiveQueue: 1, Result: 57,
		}}
		var ev events.Event
		if err := testDecoder.Decode(raw(t, w), &ev); err != nil || ev.UnreadBytes != want {
			t.Errorf("%v: %v, %d unread, want %d", flags, err, ev.UnreadBytes, want)
		}
	}
}

// Sequence numbers count SYN and FIN, payload does not.
func TestDecodePayload(t *testing.T) {
	tests := []struct {
		name                   string
		state                  events.State
		flags                  events.Flags
		queue, unsent, unacked uint32
		wantUnread, wantUnsent uint32
		wantUnacked            uint32
		received, wantReceived uint64
	}{
		{
			name:         "plain",
			state:        events.Established,
			queue:        5,
			unsent:       6,
			unacked:      7,
			wantUnread:   5,
			wantUnsent:   6,
			wantUnacked:  7,
			received:     5,
			wantReceived: 5,
		},
		{name: "only the peer's FIN is queued", state: events.CloseWait, flags: events.PeerFIN, queue: 1, received: 1},
		{
			name:         "data and FIN",
			state:        events.CloseWait,
			flags:        events.PeerFIN,
			queue:        71,
			wantUnread:   70,
			received:     101,
			wantReceived: 100,
		},
		{name: "FIN was read", state: events.CloseWait, flags: events.PeerFIN, queue: 0, received: 101, wantReceived: 100},
		{name: "our FIN in flight", state: events.FinWait1, unacked: 1},
		{name: "our FIN behind data", state: events.LastAck, unsent: 101, unacked: 50, wantUnsent: 100, wantUnacked: 50},
		{name: "our SYN in flight", state: events.SynRecv, unacked: 1},
		{name: "connecting", state: events.SynSent, unacked: 1, queue: 3},
		{name: "listening", state: events.Listen, queue: 9},
		{name: "closed", state: events.Close, queue: 9, unacked: 2, wantUnread: 9, received: 20, wantReceived: 20},
		{
			name:         "closed after both FINs",
			state:        events.Close,
			flags:        events.PeerFIN,
			queue:        10,
			wantUnread:   9,
			received:     21,
			wantReceived: 20,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var ev events.Event
			err := testDecoder.Decode(raw(t, event{Progress: progress{
				Kind: uint8(events.KindClose), Before: uint8(tt.state), Flags: uint32(tt.flags),
				ReceiveQueue: tt.queue, Unsent: tt.unsent, Unacked: tt.unacked, BytesReceived: tt.received,
			}}), &ev)
			if err != nil {
				t.Fatal(err)
			}
			if ev.UnreadBytes != tt.wantUnread || ev.UnsentBytes != tt.wantUnsent || ev.UnackedBytes != tt.wantUnacked ||
				ev.BytesReceived != tt.wantReceived {
				t.Errorf(
					"unread %d unsent %d unacked %d received %d",
					ev.UnreadBytes,
					ev.UnsentBytes,
					ev.UnackedBytes,
					ev.BytesReceived,
				)
			}
		})
	}
}

// Softirq runs on top of whichever task it interrupted.
func TestDecodeBlamesNobodyInSoftirq(t *testing.T) {
	var ev events.Event
	err := testDecoder.Decode(raw(t, event{
		Progress:  progress{Kind: uint8(events.KindFIN)},
		Endpoints: endpoints{Pid: 10, Tid: 11, Syscall: 3, Comm: [16]uint8{'x'}},
	}), &ev)
	if err != nil {
		t.Fatal(err)
	}
	if ev.Task != (events.Task{}) || ev.Syscall != "" {
		t.Errorf("softirq event names %+v in %q", ev.Task, ev.Syscall)
	}
}

// The record of a call says nothing of a kernel stack, and 0 is the id of one.
func TestDecodeTakesNoStackOfAnother(t *testing.T) {
	of := Decoder{
		Syscall: testDecoder.Syscall,
		Stack:   func(id uint32, _ uint64) []string { return []string{strconv.Itoa(int(id))} },
	}
	for kind := events.KindClose; kind.Valid(); kind++ {
		want := kind == events.KindReset || kind == events.KindReply || kind == events.KindDone
		var ev events.Event
		if err := of.Decode(raw(t, event{Progress: progress{Kind: uint8(kind)}}), &ev); err != nil {
			t.Fatal(err)
		}
		if got := len(ev.Stack) > 0; got != want {
			t.Errorf("%v: stack %v", kind, ev.Stack)
		}
	}
}

// A field of the wire record means another thing in another kind.
func TestDecodeResult(t *testing.T) {
	for kind, want := range map[events.Kind]events.Event{
		events.KindShutdown: {Result: 9}, events.KindShared: {References: 9}, events.KindWaitOver: {Signal: 9},
	} {
		var ev events.Event
		if err := testDecoder.Decode(raw(t, event{Progress: progress{Kind: uint8(kind), Result: 9}}), &ev); err != nil {
			t.Fatal(err)
		}
		if got := (events.Event{Result: ev.Result, References: ev.References, Signal: ev.Signal}); !reflect.DeepEqual(
			got,
			want,
		) {
			t.Errorf("%s: %+v", kind, got)
		}
	}
}

// A hook of netfilter has its name, also one of a later kernel.
func TestDecodeReject(t *testing.T) {
	for hook, want := range map[uint8]string{0: "PREROUTING", 1: "INPUT", 2: "FORWARD", 3: "OUTPUT", 9: "hook 9"} {
		ev := events.Event{How: 7}
		record := event{Progress: progress{
			Kind: uint8(events.KindReject), How: hook, Flags: uint32(events.SentRST), SegmentSeq: 5, SegmentFlags: 2,
		}}
		if err := testDecoder.Decode(raw(t, record), &ev); err != nil {
			t.Fatal(err)
		}
		if ev.NetfilterHook != want || ev.How != 0 || ev.SegmentSeq != 5 || ev.SegmentFlags != 2 {
			t.Errorf("%d: %+v", hook, ev)
		}
	}
}

func TestDecodeRejects(t *testing.T) {
	whole := raw(t, event{Progress: progress{Kind: uint8(events.KindClose)}})
	unknown := raw(t, event{Progress: progress{Kind: 99}})
	for name, bad := range map[string][]byte{
		"empty": nil, "one byte short": whole[:len(whole)-1], "unknown kind": unknown, "kind 0": raw(t, event{}),
	} {
		var ev events.Event
		err := testDecoder.Decode(bad, &ev)
		if !hint.Is(err, hint.Undecodable) {
			t.Errorf("%s: got %v, want an error that concerns the one record", name, err)
		}
	}
	var ev events.Event
	if err := testDecoder.Decode(append(whole, 1, 2, 3), &ev); err != nil {
		t.Errorf("a record of a newer, longer form: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	whole := Decoder{
		ResetReason: testDecoder.ResetReason, Syscall: testDecoder.Syscall,
		Stack: func(id uint32, _ uint64) []string { return []string{strconv.Itoa(int(id))} },
	}
	f.Add(raw(f, event{Progress: progress{Kind: uint8(events.KindClose)}, Endpoints: endpoints{Family: 2}}))
	f.Add(
		raw(
			f,
			event{
				Progress:  progress{Kind: uint8(events.KindReset), AtRst: 255, Before: 255},
				Endpoints: endpoints{Family: 10},
			},
		),
	)
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		var ev events.Event
		err := whole.Decode(b, &ev)
		if (err == nil) != (len(b) >= recordSize && events.Kind(b[kindOffset]).Valid()) {
			t.Errorf("%d bytes: error %v", len(b), err)
		}
		if err == nil && (len(ev.Task.Comm) > 16 || strings.Contains(ev.Task.Comm, "\x00")) {
			t.Errorf("comm %q", ev.Task.Comm)
		}
		if err == nil && ev.Task != (events.Task{}) && !ev.Flags.Has(events.TaskContext) {
			t.Errorf("softirq is blamed on %+v", ev.Task)
		}
	})
}

// The C side numbers kinds and flags by hand; the Go side must agree.
func TestEnumsAgreeWithC(t *testing.T) {
	source, err := os.ReadFile("../../bpf/event.h")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`EVENT_([A-Z_]+) = (\d+),`).FindAllStringSubmatch(string(source), -1)
	for i, m := range kinds {
		kind := events.Kind(i + 1)
		name := strings.ReplaceAll(strings.ToLower(m[1]), "_", "-")
		if kind.String() != name || m[2] != strconv.Itoa(i+1) {
			t.Errorf("C has %s, Go has %d %s", m[0], kind, kind)
		}
	}
	if events.Kind(len(kinds)+1) != events.KindLoss || len(kinds) == 0 { // which the kernel side does not report
		t.Errorf("C has %d kinds, Go has others", len(kinds))
	}
	flags := regexp.MustCompile(`\b([A-Z_]+) = 1 << (\d+),`).FindAllStringSubmatch(string(source), -1)
	goNames := strings.Fields((events.Flags(1)<<len(flags) - 1).String())
	if len(goNames) != len(flags) || len(flags) == 0 {
		t.Fatalf("C has %d flags, Go names %d of them", len(flags), len(goNames))
	}
	short := map[string]string{
		"sent-fin":     "fin",
		"sent-rst":     "rst",
		"disconnected": "disconnect",
		"linger-on":    "linger",
		"is-mptcp":     "mptcp",
		"has-ulp":      "ulp",
	}
	for i, m := range flags {
		name := strings.ReplaceAll(strings.ToLower(m[1]), "_", "-")
		if s, ok := short[name]; ok {
			name = s
		}
		if goNames[i] != name {
			t.Errorf("bit %d: C has %s, Go has %s", i, name, goNames[i])
		}
	}
	if more := (events.Flags(1) << len(flags)).String(); more != "" {
		t.Errorf("Go has the flag %s that C has not", more)
	}
}

func BenchmarkDecode(b *testing.B) {
	d := Decoder{Syscall: testDecoder.Syscall}
	record := raw(b, event{
		Progress: progress{
			Kind: uint8(events.KindClose), Flags: uint32(events.TaskContext | events.SentFIN), Before: uint8(events.Established),
		},
		Endpoints: endpoints{Syscall: 3, Family: 2, Comm: [16]uint8{'n', 'g', 'i', 'n', 'x'}},
	})
	var ev events.Event
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode(record, &ev); err != nil {
			b.Fatal(err)
		}
	}
}
