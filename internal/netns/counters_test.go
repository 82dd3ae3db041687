package netns

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadCounters(t *testing.T) {
	const snmp = "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: MaxConn EstabResets OutRsts\nTcp: -1 31 124\n"
	const netstat = "TcpExt: SyncookiesSent TCPAbortOnData\nTcpExt: 0 18446744073709551615\nIpExt: InNoRoutes\nIpExt: 7\n"
	tests := []struct {
		name, snmp, netstat string
		want                map[string]uint64 // nil: an error
	}{
		{"usual", snmp, netstat, map[string]uint64{
			"IpForwarding": 1, "IpDefaultTTL": 64, "TcpEstabResets": 31, "TcpOutRsts": 124,
			"SyncookiesSent": 0, "TCPAbortOnData": 1<<64 - 1, "IpExtInNoRoutes": 7,
		}},
		{"more names than values", "Tcp: OutRsts New\nTcp: 1\n", "", map[string]uint64{"TcpOutRsts": 1}},
		{"more values than names", "Tcp: OutRsts\nTcp: 1 2\n", "", map[string]uint64{"TcpOutRsts": 1}},
		{"a line without its pair", "Udp: InErrors\nTcp: OutRsts\nTcp: 1\n\n", "TcpExt: TCPAbortOnData",
			map[string]uint64{"TcpOutRsts": 1}},
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
		got, err := read(dir)
		if (err != nil) != (tt.want == nil) || len(got) != len(tt.want) {
			t.Errorf("%s: got %v, %v", tt.name, got, err)
		}
		for name, n := range tt.want {
			if got[name] != n {
				t.Errorf("%s: %s is %d, want %d", tt.name, name, got[name], n)
			}
		}
	}
	if _, err := read("/no/such"); err == nil {
		t.Error("no directory, no error")
	}
}

// This process's counters are the same whether or not its namespace is entered by its path.
func TestCounters(t *testing.T) {
	const own = "/proc/self/ns/net"
	inode, err := Inode(own)
	if err != nil {
		t.Fatal(err)
	}
	direct, err := Counters("", inode)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"TcpOutRsts", "TcpEstabResets", "TCPAbortOnData", "TCPAbortFailed"} {
		if _, ok := direct[name]; !ok {
			t.Errorf("this kernel does not count %s", name)
		}
	}
	if _, err := Counters(own, inode+1); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("another namespace by the same path: %v", err)
	}
	entered, err := Counters(own, inode)
	if os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) {
		t.Skipf("entering a namespace needs root: %v", err)
	}
	if err != nil || entered["TcpOutRsts"] < direct["TcpOutRsts"] {
		t.Errorf("entered: %d, %v", entered["TcpOutRsts"], err)
	}
}
