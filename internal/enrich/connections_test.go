package enrich

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

const tableHead = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

// row returns a line of /proc/net/tcp.
func row(local, remote, state, inode string) string {
	return "   0: " + local + " " + remote + " " + state + " 00000000:00000000 00:00000000 00000000  1000        0 " +
		inode + " 1 0000000000000000 20 4 30 10 -1\n"
}

// A segment from an address that no socket has was meant for the only connection with its local address and port.
func TestConnections(t *testing.T) {
	const (
		client = "0109090A:D431" // 10.9.9.1:54321
		server = "0909090A:1777" // 10.9.9.9:6007
		other  = "0A09090A:1777" // 10.9.9.10:6007
		answer = "0209090A:3E87" // 10.9.9.2:16007
		mapped = "0000000000000000FFFF00000109090A:D431"
		remote = "0000000000000000FFFF00000909090A:1777"
	)
	for name, tt := range map[string]struct {
		tcp, tcp6 string
		want      string
	}{
		"one":                {row(client, server, "01", "77"), "", "10.9.9.9:6007"},
		"connecting":         {row(client, server, "02", "77"), "", "10.9.9.9:6007"},
		"of an IPv6 socket":  {"", row(mapped, remote, "01", "77"), "10.9.9.9:6007"},
		"two":                {row(client, server, "01", "77") + row(client, other, "01", "78"), "", ""},
		"the same remote":    {row(client, answer, "01", "77"), "", ""},
		"of a listener":      {row(client, server, "01", "77") + row("00000000:D431", "00000000:0000", "0A", "1"), "", ""},
		"closed":             {row(client, server, "06", "0"), "", ""},
		"another port":       {row("0109090A:D432", server, "01", "77"), "", ""},
		"another address":    {row("0109090B:D431", server, "01", "77"), "", ""},
		"too many sockets":   {row(client, server, "01", "77") + strings.Repeat(row(answer, other, "01", "1"), 10000), "", ""},
		"no table":           {"", "", ""},
		"a line that is cut": {row(client, server, "01", "77")[:40], "", ""},
		"no hexadecimal":     {row("x109090A:D431", server, "01", "77"), "", ""},
		"an odd address":     {row("0109090A09:D431", server, "01", "77"), "", ""},
	} {
		root := t.TempDir()
		dir := filepath.Join(root, "thread-self/net")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"tcp": tt.tcp, "tcp6": tt.tcp6} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(tableHead+text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		now := time.Unix(1, 0)
		c := NewConnections(nil, func(netns uint32) string { return map[uint32]string{5: dir}[netns] }, nil)
		c.now = func() time.Time { return now }
		c.owner = func(inode uint64) *events.Task { return &events.Task{PID: uint32(inode)} }
		ev := events.Event{
			Kind: events.KindReply, Netns: 5, SegmentFlags: 0x18,
			Local: netip.MustParseAddrPort("10.9.9.1:54321"), Remote: netip.MustParseAddrPort("10.9.9.2:16007"),
		}
		first := ev
		c.Resolve(&first)
		got := ""
		if first.OtherRemote.IsValid() {
			got = first.OtherRemote.String()
		}
		if got != tt.want || (first.Owner != nil) != (tt.want != "") || first.Owner != nil && first.Owner.PID != 77 {
			t.Errorf("%s: got %q, owner %v", name, got, first.Owner)
		}
		for why, change := range map[string]func(*events.Event){
			"a SYN":             func(ev *events.Event) { ev.SegmentFlags = 0x02 },
			"another namespace": func(ev *events.Event) { ev.Netns = 6 },
			"a socket":          func(ev *events.Event) { ev.Before = events.TimeWait },
			"another event":     func(ev *events.Event) { ev.Kind = events.KindDone },
		} {
			now = now.Add(time.Minute)
			skipped := ev
			change(&skipped)
			c.Resolve(&skipped)
			if skipped.OtherRemote.IsValid() {
				t.Errorf("%s: %s is looked up", name, why)
			}
		}
		now = now.Add(time.Minute)
		again := ev
		c.Resolve(&again)
		soon := ev
		c.Resolve(&soon)
		if again.OtherRemote != first.OtherRemote || soon.OtherRemote.IsValid() {
			t.Errorf("%s: the rate is not limited", name)
		}
	}
}

// The table of this machine is understood.
func TestConnectionsHere(t *testing.T) {
	text, err := readAtMost("/proc/thread-self/net/tcp", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n")[1:] {
		if _, ok := parseSocket(line); !ok {
			t.Errorf("line %d: %q", i, line)
		}
	}
}

// No line is a panic.
func FuzzParseSocket(f *testing.F) {
	f.Add(row("0109090A:D431", "0909090A:1777", "01", "77"))
	f.Add(row("0109090A:D431", "", "FFF", "-1"))
	f.Fuzz(func(t *testing.T, line string) { parseSocket(line) })
}
