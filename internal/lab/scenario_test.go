package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sample = `# A sentence.
needs: kernel>=5.14, cap_net_admin
# More about it.
family: ipv6
-- steps --
# a comment
pair A B

start T: A recv-block 1
B recv -> ECONNRESET
-- endings --
[fentry,kprobe] A shutdown.rd
A close.rst.unread rst=true unread_bytes=1..5 duration_ns=>=7
-- counters --
TcpOutRsts +1
TCPAbortOnData +0..2
-- events.fentry.jsonl --
{"a":1}
-- unseen.tracepoint --
nothing changes
`

func parse(t *testing.T, text string) *Scenario {
	t.Helper()
	sc, err := Parse("sample", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

func TestParse(t *testing.T) {
	sc := parse(t, sample)
	if sc.Title != "A sentence." || len(sc.Notes) != 1 || sc.Family != IPv6 {
		t.Errorf("title %q, notes %q, family %q", sc.Title, sc.Notes, sc.Family)
	}
	if got := strings.Join(sc.Needs, ";"); got != "kernel>=5.14;cap_net_admin" {
		t.Errorf("needs %q", got)
	}
	last := sc.Steps[2]
	if len(sc.Steps) != 3 || last.Line != 10 || last.Name != "B" || last.Verb != "recv" || last.Want != "ECONNRESET" {
		t.Errorf("steps %+v", sc.Steps)
	}
	if st := sc.Steps[1]; st.Verb != "start" || st.Args[0] != "T" || st.Inner == nil || st.Inner.Verb != "recv-block" {
		t.Errorf("start: %+v", st)
	}
	if e := sc.Endings[1]; e.Line != 13 || len(e.Modes) != 0 || e.Fields[2] != (FieldWant{"duration_ns", ">=7"}) {
		t.Errorf("ending %+v", e)
	}
	if c := sc.Counters; c[0] != (CounterWant{15, "TcpOutRsts", 1, 1}) ||
		c[1] != (CounterWant{16, "TCPAbortOnData", 0, 2}) {
		t.Errorf("counters %+v", c)
	}
	if sc.Unseen["tracepoint"] != "nothing changes" {
		t.Errorf("unseen %v", sc.Unseen)
	}
}

// TestFamilies: a header replaces the families that are compared completely,
// and no ending may be of another.
func TestFamilies(t *testing.T) {
	sc := parse(t, "# T.\nfamilies: recv reply\n-- steps --\n-- endings --\nA recv.rst\n")
	if sc.Compares("close.x") || !sc.Compares("reply.x") || len(sc.Families) != 2 {
		t.Errorf("families %q", sc.Families)
	}
	if sc := parse(t, sample); !sc.Compares("close.x") || sc.Compares("recv.rst") {
		t.Errorf("without the header %q", sc.Families)
	}
	for _, bad := range []string{
		"families:\n-- steps --\n-- endings --\n", "families: recv\n-- steps --\n-- endings --\nA close.x\n",
	} {
		if _, err := Parse("sample", []byte("# T.\n"+bad)); err == nil {
			t.Errorf("taken: %q", bad)
		}
	}
}

// TestExpected: in a mode that cannot see the scenario, only lines that name
// the mode count.
func TestExpected(t *testing.T) {
	sc := parse(t, "# T.\n-- steps --\n-- endings --\nA close.x\n[kprobe,tracepoint] A close.y\n[fentry] A close.z\n"+
		"-- unseen.tracepoint --\nbecause\n")
	for mode, want := range map[string]string{
		"fentry":     "A close.x,A close.z",
		"kprobe":     "A close.x,A close.y",
		"tracepoint": "A close.y",
	} {
		var got []string
		for _, e := range sc.Expected(mode) {
			got = append(got, e.String())
		}
		if strings.Join(got, ",") != want {
			t.Errorf("%s: %q, not %q", mode, got, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	const head, steps, endings = "# T.\n", "-- steps --\n", "-- endings --\n"
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "no title"},
		{"no sections", head, "needs the sections"},
		{"family", head + "family: ipx\n" + steps + endings, "unknown family"},
		{"two steps sections", head + steps + steps + endings, "sample.txtar:3: a second section"},
		{"arrow", head + steps + "A recv ->\n" + endings, "sample.txtar:3: one word must follow ->"},
		{"two results", head + steps + "A recv -> 1 2\n" + endings, "one word must follow ->"},
		{"no verb", head + steps + "A\n" + endings, "no verb"},
		{"start", head + steps + "start T A close\n" + endings, "want start THREAD"},
		{"start in start", head + steps + "start T: start U: A close\n" + endings, "start within start"},
		{"start with result", head + steps + "start T: A recv -> 1\n" + endings, "start has no outcome"},
		{"mode", head + steps + endings + "[ftrace] A close.x\n", "sample.txtar:4: unknown attach mode"},
		{"bracket", head + steps + endings + "[fentry A close.x\n", "no ]"},
		{"no path", head + steps + endings + "A\n", "want SOCKET PATH"},
		{"no family", head + steps + endings + "A close\n", "has no family"},
		{"no value", head + steps + endings + "A close.x fin=\n", "want KEY=VALUE"},
		{"bound", head + steps + endings + "A close.x n=>=x\n", "not a whole number"},
		{"range", head + steps + endings + "A close.x n=1..\n", "not a whole number"},
		{"counter", head + steps + endings + "-- counters --\nTcpOutRsts\n", "want COUNTER +N"},
		{"counter sign", head + steps + endings + "-- counters --\nTcpOutRsts 1\n", "want +N or +A..B"},
		{"stuck", head + steps + endings + "-- stuck --\nA\n", "want SOCKET DIAGNOSIS"},
		{"unseen mode", head + steps + endings + "-- unseen.magic --\nx\n", "unseen.MODE"},
		{"unseen reason", head + steps + endings + "-- unseen.kprobe --\n\n", "unseen.MODE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("sample", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "sample.txtar:") {
				t.Errorf("error %v, not one with %q", err, c.want)
			}
		})
	}
}

func TestSections(t *testing.T) {
	sc := parse(t, sample)
	if got := string(sc.Render()); got != sample {
		t.Errorf("rendered otherwise than read:\n%s", got)
	}
	sc.SetSection("events.fentry.jsonl", []byte("{}\n"))
	sc.SetSection("events.kprobe.jsonl", []byte("[]\n"))
	want := strings.Replace(sample, `{"a":1}`, "{}", 1) + "-- events.kprobe.jsonl --\n[]\n"
	if got := string(sc.Render()); got != want {
		t.Errorf("got:\n%s", got)
	}
	sc.SetSection("events.fentry.jsonl", nil)
	if _, ok := sc.Section("events.fentry.jsonl"); ok {
		t.Error("an empty section was not removed")
	}
	dir := t.TempDir()
	if err := sc.Save(dir); err != nil {
		t.Fatal(err)
	}
	saved, err := os.ReadFile(filepath.Join(dir, "sample.txtar"))
	if err != nil || string(saved) != string(sc.Render()) {
		t.Errorf("saved %q, %v", saved, err)
	}
}

// TestFiles checks what every scenario file has to be like.
func TestFiles(t *testing.T) {
	all, err := Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	titles := map[string]string{}
	for _, sc := range all {
		if !strings.HasSuffix(sc.Title, ".") {
			t.Errorf("%s: the title is no sentence: %q", sc.Name, sc.Title)
		}
		if other := titles[sc.Title]; other != "" {
			t.Errorf("%s has the title of %s", sc.Name, other)
		}
		titles[sc.Title] = sc.Name
		slug, _, _ := strings.Cut(sc.Name, "_")
		provokes := false
		for _, e := range sc.Endings {
			provokes = provokes || e.Path == slug
		}
		if !provokes {
			t.Errorf("%s does not expect %s", sc.Name, slug)
		}
	}
	if _, err := Find("close.no-such"); err == nil {
		t.Error("found a scenario that does not exist")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("# T.\n-- steps --\nA recv 1 -> 1\n-- endings --\nA close.x n=1..2 m=a|b p=@P\n")
	f.Fuzz(func(t *testing.T, text string) {
		sc, err := Parse("fuzz", []byte(text))
		if err != nil {
			return
		}
		for _, mode := range Modes {
			sc.Expected(mode)
		}
		again, err := Parse("fuzz", sc.Render())
		if err != nil {
			t.Fatalf("what was read and rendered cannot be read: %v", err)
		}
		if len(again.Steps) != len(sc.Steps) || len(again.Endings) != len(sc.Endings) {
			t.Fatalf("%d steps and %d endings became %d and %d",
				len(sc.Steps), len(sc.Endings), len(again.Steps), len(again.Endings))
		}
	})
}

// TestAlone: what a scenario does to others decides whether it has company.
func TestAlone(t *testing.T) {
	for _, c := range []struct {
		steps string
		want  bool
	}{
		{"pair A B\nA close\n", false},
		{"pair A B\nA linger on 0\nA close\n", false},
		{"pair A B\nA linger off\n", false},
		{"pair A B\nA linger on 1\nstart T: A close\n", true},
		{"spawn P\n", true},
		{"global net.ipv4.tcp_max_orphans=0\n", true},
	} {
		if got := parse(t, "# T.\n-- steps --\n"+c.steps+"-- endings --\n").Alone(); got != c.want {
			t.Errorf("%q: %t", c.steps, got)
		}
	}
}
