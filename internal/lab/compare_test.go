package lab

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

var (
	client = netip.MustParseAddrPort("127.0.0.1:40000")
	server = netip.MustParseAddrPort("127.0.0.1:80")
)

func sampleResult() *Result {
	return &Result{
		Netns:   7,
		StartNS: 100,
		EndNS:   200,
		Sockets: map[string]Endpoint{
			"A":      {client, server},
			"A.peer": {server, client},
			"L":      {Local: server},
			"U":      {},
		},
		IDs: map[string]int{"P": 42, "Unknown": 0},
	}
}

// ending is one in the window, in the namespace.
func ending(local, remote, path, fields string) Seen {
	s := Seen{Path: path, MonoNS: 150, Netns: 7, Fields: map[string]any{}}
	if local != "" {
		s.Local = netip.MustParseAddrPort(local)
	}
	if remote != "" {
		s.Remote = netip.MustParseAddrPort(remote)
	}
	if err := json.Unmarshal([]byte("{"+fields+"}"), &s.Fields); err != nil {
		panic(err)
	}
	return s
}

func ofA(path, fields string) Seen {
	return ending("127.0.0.1:40000", "127.0.0.1:80", path, fields)
}

func TestCompare(t *testing.T) {
	early, late, elsewhere := ofA("close.x", ""), ofA("close.x", ""), ofA("close.x", "")
	early.MonoNS, late.MonoNS, elsewhere.Netns = 99, 201, 8
	unknownNetns := ofA("close.x", "")
	unknownNetns.Netns = 0
	for _, c := range []struct {
		name, endings string
		seen          []Seen
		want          []string // a part of each mismatch
	}{
		{"nothing", "", nil, nil},
		{"match", "A close.x", []Seen{ofA("close.x", "")}, nil},
		{"missing", "A close.x", nil, []string{"line 4: expected, but not seen: A close.x"}},
		{"too many", "A close.x", []Seen{ofA("close.x", ""), ofA("close.x", "")},
			[]string{"not expected, but seen: close.x of 127.0.0.1:40000 to 127.0.0.1:80 (socket A)"}},
		{"other path", "A close.x", []Seen{ofA("close.y", "")}, []string{"seen close.y of 127.0.0.1:40000 to 127.0.0.1:80, but path is close.y, not close.x"}},
		{"other socket", "A close.x", []Seen{ending("127.0.0.1:80", "127.0.0.1:40000", "close.x", "")},
			[]string{"not seen: A close.x",
				"not expected, but seen: close.x of 127.0.0.1:80 to 127.0.0.1:40000 (socket A.peer)"}},
		{"outside of window and namespace", "A close.x", []Seen{early, late, elsewhere}, []string{"not seen"}},
		{"namespace unknown", "A close.x", []Seen{unknownNetns}, nil},
		{"family not compared", "", []Seen{ofA("recv.fin", "")}, nil},
		{"any order", "A close.x\nA shutdown.y", []Seen{ofA("shutdown.y", ""), ofA("close.x", "")}, nil},
		{"strict after loose", "A close.x\nA close.x n=1", []Seen{ofA("close.x", `"n":1`), ofA("close.x", `"n":2`)}, nil},
		{"boolean", "A close.x fin=true rst=false", []Seen{ofA("close.x", `"fin":true`)}, nil},
		{"boolean differs", "A close.x rst=true", []Seen{ofA("close.x", `"rst":false`)}, []string{"rst is false, not true"}},
		{"field missing", "A close.x signal=9", []Seen{ofA("close.x", "")}, []string{"signal is missing, not 9"}},
		{"nested", "A close.x unread_bytes=5 before=LISTEN pid=@P",
			[]Seen{ofA("close.x", `"evidence":{"unread_bytes":5},"state":{"before":"LISTEN"},"actor":{"pid":42}`)}, nil},
		{"two fields", "A close.x n=1 m=2", []Seen{ofA("close.x", `"n":3,"m":4`)}, []string{"n is 3, not 1; m is 4, not 2"}},
		{"alternatives", "A close.x after=B|C", []Seen{ofA("close.x", `"state":{"after":"C"}`)}, nil},
		{"at least", "A close.x n=>=5", []Seen{ofA("close.x", `"n":5`)}, nil},
		{"not enough", "A close.x n=>=5", []Seen{ofA("close.x", `"n":4`)}, []string{"n is 4, not >=5"}},
		{"at most", "A close.x n=<=5", []Seen{ofA("close.x", `"n":6`)}, []string{"n is 6, not <=5"}},
		{"range", "A close.x n=1..5", []Seen{ofA("close.x", `"n":5`)}, nil},
		{"no number", "A close.x n=1..5", []Seen{ofA("close.x", `"n":"many"`)}, []string{"n is many"}},
		{"helper", "A close.x pid=@P", []Seen{ofA("close.x", `"actor":{"pid":43}`)}, []string{"pid is 43, not @P"}},
		{"helper in a container", "A close.x pid=@Unknown", []Seen{ofA("close.x", `"actor":{"pid":43}`)}, nil},
		{"no actor in a container", "A close.x pid=@Unknown", []Seen{ofA("close.x", `"actor":{"pid":0}`)}, []string{"pid is 0, not @Unknown"}},
		{"v4-mapped", "A close.x", []Seen{ending("[::ffff:127.0.0.1]:40000", "[::ffff:127.0.0.1]:80", "close.x", "")}, nil},
		{"listener", "L close.x", []Seen{ending("127.0.0.1:80", "0.0.0.0:0", "close.x", "")}, nil},
		{"never connected", "U close.x", []Seen{ending("", "", "close.x", ""), ending("0.0.0.0:0", "0.0.0.0:0", "close.x", "")},
			[]string{"not expected"}},
		{"forgotten remote", "A close.x", []Seen{ending("127.0.0.1:40000", "0.0.0.0:0", "close.x", "")}, nil},
		{"forgotten port and local", "A close.x", []Seen{ending("0.0.0.0:40000", "127.0.0.1:0", "close.x", "")}, nil},
		{"unknown socket", "Z close.x", nil, []string{"not seen: Z close.x"}},
		{"nearest", "A close.x n=1", []Seen{ofA("shutdown.y", ""), ofA("close.x", `"n":2`)},
			[]string{"seen close.x of 127.0.0.1:40000 to 127.0.0.1:80, but n is 2", "not expected, but seen: shutdown.y"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sc := parse(t, "# T.\n-- steps --\n-- endings --\n"+c.endings+"\n")
			got := Compare(sc, "fentry", sampleResult(), c.seen)
			if len(got) != len(c.want) {
				t.Fatalf("%d mismatches, not %d: %v", len(got), len(c.want), got)
			}
			for i, want := range c.want {
				if !strings.Contains(got[i].String(), want) {
					t.Errorf("%q does not say %q", got[i], want)
				}
			}
		})
	}
}

// TestCompareUnseen: what a mode cannot see must not be reported in it.
func TestCompareUnseen(t *testing.T) {
	sc := parse(t, "# T.\n-- steps --\n-- endings --\nA shutdown.rd\n-- unseen.tracepoint --\nno change\n")
	seen := []Seen{ofA("shutdown.rd", "")}
	if got := Compare(sc, "tracepoint", sampleResult(), seen); len(got) != 1 {
		t.Errorf("seen where it cannot be: %v", got)
	}
	if got := Compare(sc, "tracepoint", sampleResult(), nil); len(got) != 0 {
		t.Errorf("missed where it cannot be seen: %v", got)
	}
	if got := Compare(sc, "kprobe", sampleResult(), seen); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// TestResultJSON: a result that was kept says the same.
func TestResultJSON(t *testing.T) {
	data, err := json.Marshal(sampleResult())
	if err != nil {
		t.Fatal(err)
	}
	var res Result
	if err := json.Unmarshal(data, &res); err != nil {
		t.Fatal(err)
	}
	sc := parse(t, "# T.\n-- steps --\n-- endings --\nA close.x pid=@P\nL close.y\nU close.z\n")
	seen := []Seen{
		ofA("close.x", `"actor":{"pid":42}`),
		ending("127.0.0.1:80", "0.0.0.0:0", "close.y", ""),
		ending("0.0.0.0:0", "0.0.0.0:0", "close.z", ""),
	}
	if got := Compare(sc, "fentry", &res, seen); len(got) != 0 {
		t.Error(got)
	}
}

func TestCompareCounters(t *testing.T) {
	sc := parse(t, "# T.\n-- steps --\n-- endings --\n-- counters --\nTcpOutRsts +1\nTCPAbortOnData +2..3\n")
	for _, c := range []struct {
		name     string
		counters map[string]uint64
		want     string
	}{
		{"as listed", map[string]uint64{"TcpOutRsts": 1, "TCPAbortOnData": 3, "TcpInSegs": 9}, ""},
		{"too far", map[string]uint64{"TcpOutRsts": 1, "TCPAbortOnData": 4}, "line 6: the kernel's TCPAbortOnData moved by 4, not by 2 to 3"},
		{"did not move", map[string]uint64{"TCPAbortOnData": 2}, "line 5: the kernel's TcpOutRsts moved by 0, not by 1"},
		{"not listed", map[string]uint64{"TcpOutRsts": 1, "TCPAbortOnData": 2, "TCPAbortOnClose": 1}, "TCPAbortOnClose moved by 1, not by 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, m := range CompareCounters(sc, &Result{Counters: c.counters}) {
				got = append(got, m.String())
			}
			if text := strings.Join(got, "; "); !strings.Contains(text, c.want) || (c.want == "") != (text == "") {
				t.Errorf("%q, not %q", text, c.want)
			}
		})
	}
}

func TestCompareExplained(t *testing.T) {
	res := &Result{Counters: map[string]uint64{"TcpOutRsts": 1, "TCPAbortFailed": 1, "TcpInSegs": 9}}
	explained := map[string]uint64{"TcpOutRsts": 1, "TCPAbortOnClose": 1}
	got := CompareExplained(res, explained, false)
	want := []string{
		"the kernel's TCPAbortOnClose moved by 0, but the endings explain 1",
		"the kernel's TCPAbortFailed moved by 1, but the endings explain 0",
	}
	if len(got) != 2 || got[0].Text != want[0] || got[1].Text != want[1] {
		t.Errorf("got %v", got)
	}
	if got = CompareExplained(res, explained, true); len(got) != 1 || got[0].Text != want[0] {
		t.Errorf("partial: got %v", got)
	}
}

// TestDottedKeys: a dotted key goes inside, a plain one finds what it always has.
func TestDottedKeys(t *testing.T) {
	fields := ofA(
		"recv.rst",
		`"actor":{"pid":1},"peer":{"path":"close.x","actor":{"pid":2}},"evidence":{"path":"no"}`,
	).Fields
	for key, want := range map[string]string{
		"pid": "1", "actor.pid": "1", "peer.path": "close.x", "peer.actor.pid": "2", "path": "no",
		"earlier.path": "", "peer.nothing": "", "peer": "map[actor:map[pid:2] path:close.x]",
	} {
		if got, ok := lookup(fields, key); got != want || ok != (want != "") {
			t.Errorf("%s is %q, %v", key, got, ok)
		}
	}
}

// TestMaySee: an ending with a "?" may be missing in that mode, and in no other;
// if it comes it must be as written, and never takes the place of one that must
// be seen.
func TestMaySee(t *testing.T) {
	sc := parse(t, "# T.\n-- steps --\n-- endings --\n[kprobe,tracepoint?] A close.x rst=true\n[tracepoint] A close.x\n")
	other, same := ofA("close.x", ""), ofA("close.x", `"rst":true`)
	for _, c := range []struct {
		mode string
		seen []Seen
		want int
	}{
		{"tracepoint", []Seen{other, same}, 0},
		{"tracepoint", []Seen{same}, 0},
		{"tracepoint", []Seen{other}, 0},
		{"tracepoint", []Seen{other, other}, 1},
		{"tracepoint", nil, 1},
		{"kprobe", []Seen{same}, 0},
		{"kprobe", nil, 1},
	} {
		if got := Compare(sc, c.mode, sampleResult(), c.seen); len(got) != c.want {
			t.Errorf("%s of %v: %v", c.mode, c.seen, got)
		}
	}
	if _, err := parseExpectation("[sideways?] A close.x", 1); err == nil {
		t.Error("a mode that is none was taken")
	}
}

// A tracer that does not see all contradicts nothing by what it leaves out.
func TestContradictions(t *testing.T) {
	sc := parse(t, "# T.\n-- steps --\n-- endings --\nA close.x n=1 peer.path=recv.rst\nA.peer close.y\n")
	for _, c := range []struct {
		name string
		seen []Seen
		want int
	}{
		{"nothing", nil, 0},
		{"a field less", []Seen{ofA("close.x", `"n":1`)}, 0},
		{"another number", []Seen{ofA("close.x", `"n":2`)}, 1},
		{"another path", []Seen{ofA("close.z", `"n":1`)}, 1},
		{"twice", []Seen{ofA("close.x", ""), ofA("close.x", "")}, 1},
		{"another family", []Seen{ofA("recv.rst", "")}, 0},
	} {
		if got := Contradictions(sc, "fentry", sampleResult(), c.seen); len(got) != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
