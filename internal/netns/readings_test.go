package netns

import (
	"os"
	"path/filepath"
	"testing"
)

// The counters of other namespaces are read at one of their processes, up to a limit.
func TestOthers(t *testing.T) {
	f := fixture(t)
	const snmp = "Tcp: InSegs OutRsts\nTcp: 7 5\n"
	for _, pid := range []string{"4211", "4212", "4213"} {
		dir := filepath.Join(f.Proc, pid)
		for path, text := range map[string]string{
			"ns/net":      map[string]string{"4211": "100", "4212": "101", "4213": "102"}[pid],
			"net/snmp":    snmp,
			"net/netstat": "TcpExt: ListenDrops\nTcpExt: 3\n",
		} {
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := f.Others(101, 1)
	if c := r.Counters[100]; c["TcpOutRsts"] != 5 || c["ListenDrops"] != 3 || len(r.Counters) != 1 {
		t.Errorf("got %v", r.Counters)
	}
	if r.Failed[102] != overLimit || r.Complete || r.Failed[101] != "" {
		t.Errorf("over the limit: %+v", r)
	}
	if r = f.Others(0, 10); !r.Complete || len(r.Counters) != 3 {
		t.Errorf("got %+v", r)
	}
	if err := os.Remove(filepath.Join(f.Proc, "4213/net/snmp")); err != nil {
		t.Fatal(err)
	}
	if r = f.Others(0, 10); r.Failed[102] == "" {
		t.Error("counters that cannot be read, and no reason")
	}
}

// This process's counters are those of its namespace among all.
func TestOthersHere(t *testing.T) {
	f := System()
	own, err := f.Own()
	if err != nil {
		t.Fatal(err)
	}
	c := f.Others(own+1, 1<<20).Counters[own]
	if _, ok := c["TcpOutRsts"]; !ok {
		t.Errorf("no counters of namespace %d", own)
	}
}
