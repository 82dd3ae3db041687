package netns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Any text in place of /proc/net/snmp and netstat gives counters that are in it, or an error.
func FuzzCounters(f *testing.F) {
	f.Add("Tcp: OutRsts MaxConn\nTcp: 7 -1\n", "TcpExt: TCPAbortOnData\nTcpExt: 3\n")
	f.Add("Tcp: OutRsts\n", "TcpExt:\nTcpExt: 1\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, snmp, netstat string) {
		for name, text := range map[string]string{"snmp": snmp, "netstat": netstat} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		counters, err := read(dir)
		if _, ok := counters["TcpOutRsts"]; ok != (err == nil) {
			t.Errorf("TcpOutRsts is there: %v, error %v", ok, err)
		}
		if words := len(strings.Fields(snmp + "\n" + netstat)); len(counters) > words/2 {
			t.Errorf("%d counters of %d words", len(counters), words)
		}
	})
}
