package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
)

func TestReadCounters(t *testing.T) {
	const snmp = "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: MaxConn EstabResets OutRsts\nTcp: -1 31 124\n"
	const netstat = "TcpExt: SyncookiesSent TCPAbortOnData\nTcpExt: 0 18446744073709551615\nIpExt: InNoRoutes\nIpExt: 7\n"
	tests := []struct {
		name, snmp, netstat string
		want                sink.Counters // nil: an error
	}{
		{"usual", snmp, netstat, sink.Counters{
			"IpForwarding": 1, "IpDefaultTTL": 64, "TcpEstabResets": 31, "TcpOutRsts": 124,
			"SyncookiesSent": 0, "TCPAbortOnData": 1<<64 - 1, "IpExtInNoRoutes": 7,
		}},
		{"more names than values", "Tcp: OutRsts New\nTcp: 1\n", "", sink.Counters{"TcpOutRsts": 1}},
		{"more values than names", "Tcp: OutRsts\nTcp: 1 2\n", "", sink.Counters{"TcpOutRsts": 1}},
		{"a line without its twin", "Udp: InErrors\nTcp: OutRsts\nTcp: 1\n\n", "TcpExt: TCPAbortOnData", sink.Counters{"TcpOutRsts": 1}},
		{"another file", "garbage\n\x00\n", netstat, nil},
		{"empty", "", "", nil},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		for name, text := range map[string]string{"snmp": tt.snmp, "netstat": tt.netstat} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := readCounters(dir)
		if (err != nil) != (tt.want == nil) || len(got) != len(tt.want) {
			t.Errorf("%s: got %v, %v", tt.name, got, err)
		}
		for name, n := range tt.want {
			if got[name] != n {
				t.Errorf("%s: %s is %d, want %d", tt.name, name, got[name], n)
			}
		}
	}
	if _, err := readCounters("/no/such"); err == nil {
		t.Error("no directory, no error")
	}
}

// The own counters, also by the way that leads into another namespace.
func TestNetnsCounters(t *testing.T) {
	const own = "/proc/self/ns/net"
	inode, err := netnsInode(own)
	if err != nil {
		t.Fatal(err)
	}
	direct, err := netnsCounters("", inode)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"TcpOutRsts", "TcpEstabResets", "TCPAbortOnData", "TCPAbortFailed"} {
		if _, ok := direct[name]; !ok {
			t.Errorf("this kernel does not count %s", name)
		}
	}
	if _, err := netnsCounters(own, inode+1); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("another namespace by the same path: %v", err)
	}
	if err := kernel.CheckPrivileges(); err != nil || os.Geteuid() != 0 {
		t.Skip("entering a namespace needs root")
	}
	entered, err := netnsCounters(own, inode)
	if err != nil || entered["TcpOutRsts"] < direct["TcpOutRsts"] {
		t.Errorf("entered: %d, %v", entered["TcpOutRsts"], err)
	}
}

// What moved at the edges is told apart, and a mark too few is not overlooked.
func TestAuditMarks(t *testing.T) {
	var n uint64
	read := func() (sink.Counters, error) {
		n += 10 + n // 10, 30, 70, 150
		return sink.Counters{"TcpOutRsts": n}, nil
	}
	e := fakeSystem(0)
	s := newStream(e, &fakeSource{}, &witness{}, 0)
	a := &audit{read: read}
	for range 4 {
		a.mark()
	}
	a.finish(s)
	if a.Impossible != "" || a.Moved["TcpOutRsts"] != 140 || a.Edges["TcpOutRsts"] != 20+80 {
		t.Errorf("got %+v", a)
	}
	a = &audit{read: read}
	a.mark()
	if a.finish(s); a.Impossible == "" {
		t.Error("compared although it was not seen to end")
	}
	a = &audit{read: func() (sink.Counters, error) { return nil, os.ErrPermission }}
	a.mark()
	if a.finish(s); !strings.Contains(a.Impossible, os.ErrPermission.Error()) {
		t.Errorf("unreadable: %q", a.Impossible)
	}
}

func TestNarrow(t *testing.T) {
	for _, f := range []facts{{}, {Filter: probe.Filter{Netns: 5}}, {Filter: probe.Filter{IPv4: true, IPv6: true}}} {
		if f.narrow() {
			t.Errorf("%+v is narrow", f)
		}
	}
	for _, f := range []facts{
		{Filter: probe.Filter{PIDs: []uint32{1}}}, {Filter: probe.Filter{Ports: []uint16{1}}},
		{Filter: probe.Filter{LocalPorts: []uint16{1}}}, {Filter: probe.Filter{RemotePorts: []uint16{1}}},
		{Filter: probe.Filter{IPv4: true}}, {Filter: probe.Filter{IPv6: true}},
		{cgroups: []string{"/a"}}, {containers: []string{"0f"}},
	} {
		if !f.narrow() {
			t.Errorf("%+v is not narrow", f)
		}
	}
}
