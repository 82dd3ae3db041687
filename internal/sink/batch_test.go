package sink

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with testdata/name, or writes it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", file, got, want)
	}
}

func at(ms int) time.Time {
	return time.Date(2026, 11, 21, 12, 1, 2, ms*1e6, time.Local)
}

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// aThread is not the main thread of its process.
var aThread = &events.Task{PID: 4194304, TID: 4194305, Comm: "C2 CompilerThre", Process: "a-comm-of-15-by"}

// samples are endings of every shape that a sink has to show.
func samples() []*events.Ending {
	nginx := &events.Task{PID: 4211, TID: 4211, UID: 33, Comm: "nginx"}
	return []*events.Ending{
		{
			Time: at(117), MonoNS: 81234567890, Path: "close.rst.unread", Title: "close → RST",
			Cause:   "148 B unread in the receive queue",
			Trigger: events.TriggerClose, Syscall: "close", Actor: nginx,
			Local: addr("10.0.0.5:443"), Remote: addr("10.0.0.9:51234"), Netns: 4026531840, CgroupID: 77,
			Cgroup: "/kubepods/pod6fd8b3d4-2a0b-4f5e-9d0e-1f2a3b4c5d6e/0f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d",
			Before: events.Established, After: events.Close, RST: true, KernelReason: "TCP_ABORT_ON_CLOSE",
			Evidence:   events.Evidence{UnreadBytes: 148, BytesReceived: 1234, BytesSent: 5678},
			DurationNS: 5210,
		},
		{
			Time: at(120), Path: "close.fin.active", Title: "close → FIN",
			Cause:          "all data read; ESTABLISHED → FIN_WAIT1",
			Cgroup:         "/system.slice/docker-0f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d.scope",
			ContainerNames: &events.ContainerNames{Name: "web\x1b]0;x\a"},
			Trigger:        events.TriggerSignal, Signal: 9, Actor: aThread,
			Local: addr("192.168.100.200:38422"), Remote: addr("192.168.100.201:15432"), Netns: 4026531840,
			Before: events.Established, After: events.FinWait1, FIN: true,
		},
		{
			Time: at(130), Path: "close.fin.passive", Title: "close → FIN", Cause: "the peer closed first",
			Cgroup: "/system.slice/nginx.service",
			Doubt:  "the return of the call was not seen", Trigger: events.TriggerExit, Actor: nginx,
			Local:  addr("[2001:db8:1234:5678:9abc:def0:1234:5678]:65535"),
			Remote: addr("[fe80:1234:5678:9abc:def0:1234:5678:9abc]:443"), Netns: 4026532001,
			Before: events.CloseWait, After: events.LastAck, FIN: true, DurationNS: 1234567890,
		},
		{
			Time: at(140), Path: "close.fin.active", Title: "close → FIN", Cause: "all data read",
			Trigger: events.TriggerClose, Actor: nginx, Cgroup: "/a/\x1b[31m\x80",
			Local: addr("[::ffff:10.0.0.5]:443"), Remote: addr("[::ffff:10.0.0.9]:51234"), Netns: 4026532001,
			Before: events.Established, After: events.FinWait1, FIN: true,
		},
		{
			Time: at(150), Path: "close.listen", Title: "close of a listener",
			Cause:   "3 connections waiting to be accepted were reset",
			Trigger: events.TriggerClose, Actor: &events.Task{PID: 9, Comm: "\x1b[31mre\nd\xff\u202e\u009b2J"},
			Local: addr("[::]:80"), Remote: addr("[::]:0"), Netns: 4026532001,
			Before: events.Listen, After: events.Close,
			Evidence: events.Evidence{Children: 3, ChildrenReset: 3},
		},
		{
			Time: at(160), Path: "reply.rst.after-close", Title: "RST in reply",
			Cause:   "1,460 B arrived 2.9 s after nginx[4211] closed",
			Trigger: events.TriggerSegment, Local: addr("10.0.0.5:443"), Remote: addr("10.0.0.9:51234"),
			Netns: 4026531840, RST: true,
		},
		{
			Time: at(170), Path: "close.rst.linger0", Title: "close → RST",
			Cause: "SO_LINGER {1,0}", Trigger: events.TriggerClose,
			Actor: &events.Task{PID: 1, Comm: "日本語サーバ"}, Local: addr("[2001:db8::1]:443"),
			Remote: addr("[2001:db8::2]:1"), RST: true,
		},
		{
			Time: at(180), Path: "recv.rst", Title: "RST received",
			Cause:   "ECONNRESET; peer python3[12084]: 1,503 B unread",
			Trigger: events.TriggerSegment, Owner: nginx, Local: addr("10.0.0.5:443"), Remote: addr("10.0.0.9:51234"),
			Netns: 4026531840, Before: events.Established, After: events.Close,
		},
		{
			Time: at(190), Path: "abort.diag", Title: "killed → RST", Cause: "SOCK_DESTROY (ss -K) in ESTABLISHED",
			Trigger: events.TriggerNetlink, Actor: &events.Task{PID: 977, Comm: "ss"},
			Owner: &events.Task{PID: 12, Comm: "re\nd"}, Local: addr("10.0.0.5:443"), Remote: addr("10.0.0.9:51234"),
			Netns: 4026531840, Before: events.Established, After: events.Close, RST: true,
		},
	}
}
