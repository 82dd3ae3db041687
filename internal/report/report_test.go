package report

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/sink"
)

var (
	begin  = time.Date(2026, 11, 28, 23, 35, 35, 985e6, time.UTC)
	client = netip.MustParseAddr("10.0.0.5")
	server = netip.MustParseAddrPort("10.0.0.9:443")
)

// connection returns the endings of the nth connection, which begins some time after the first: a close with unread
// data, the RST received, and the close of the socket after it.
func connection(n int, after time.Duration, name string) []*events.Ending {
	at, from := begin.Add(after), netip.AddrPortFrom(client, uint16(33042+n%30000))
	nginx, app := &events.Task{PID: 4211, Comm: name}, &events.Task{PID: 977, Comm: "app"}
	return []*events.Ending{
		{
			Time: at, Path: events.CloseRSTUnread, Trigger: events.TriggerClose, Actor: nginx, Local: server, Remote: from,
			RST: true, Before: events.Established, After: events.Close, Cause: "148 B unread in the receive queue",
			Evidence: events.Evidence{UnreadBytes: 148},
		},
		{
			Time: at.Add(18 * time.Microsecond), Path: events.RecvRST, Title: "RST received", Trigger: events.TriggerSegment,
			Owner: app, Local: from, Remote: server, Before: events.Established, After: events.Close, Cause: "ECONNRESET",
			Evidence: events.Evidence{SockErr: int(syscall.ECONNRESET)},
			Peer:     &events.Past{Path: events.CloseRSTUnread, Actor: nginx},
		},
		{
			Time: at.Add(50 * time.Millisecond), Path: events.ClosedReset, Trigger: events.TriggerClose, Actor: app, Local: from,
			Remote: server, Before: events.Close, After: events.Close, Earlier: &events.Past{Path: events.RecvRST},
		},
	}
}

// keepalive returns an ending of which the other end is not seen.
func keepalive(after time.Duration) *events.Ending {
	return &events.Ending{
		Time: begin.Add(after), Path: events.AbortKeepalive, Trigger: events.TriggerTimer, RST: true,
		Local: netip.MustParseAddrPort("[2001:db8::1]:51000"), Remote: netip.MustParseAddrPort("[2001:db8::2]:5432"),
		Owner: &events.Task{PID: 88, Comm: "worker"}, Before: events.Established, After: events.Close,
		Cause: "keepalive timeout after 9 unanswered probes", Evidence: events.Evidence{Probes: 9, SockErr: 110},
	}
}

// collect returns a collector of endings, of one recording.
func collect(t testing.TB, endings ...*events.Ending) *Collector {
	t.Helper()
	c := New()
	sum := &sink.Summary{Took: time.Minute, LostRecords: 3}
	for _, e := range endings {
		sum.Add(e)
		c.Observe(e, true)
		if err := c.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	c.AddRecording(events.Header{
		Host: "web1", Kernel: "6.12.48", Attach: "fentry", Hooks: []string{"tcp_close"}, Missing: []string{"tcp_abort"},
	}, sum)
	return c
}

func usual() []*events.Ending {
	var all []*events.Ending
	for n := range 40 {
		all = append(all, connection(n, time.Duration(n*n)*time.Second, "nginx")...)
	}
	return append(all, keepalive(20*time.Minute))
}

func options(l explain.Language) Options {
	return Options{Language: l, Version: "v1.2.3", Files: []string{"night.rec.zst"}}
}

func htmlOf(t testing.TB, c *Collector, o Options) string {
	t.Helper()
	var b strings.Builder
	if err := c.HTML(&b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func markdownOf(t testing.TB, c *Collector, o Options) string {
	t.Helper()
	var b strings.Builder
	if err := c.Markdown(&b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// inUTC makes UTC the local time zone during a test.
func inUTC(t *testing.T) {
	t.Helper()
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
}

var update = flag.Bool("update", false, "write the golden files")

// The pages are those of testdata; -update writes them.
func TestGolden(t *testing.T) {
	inUTC(t)
	for name, got := range map[string]string{
		"report.html":      htmlOf(t, collect(t, usual()...), options(explain.English)),
		"report.zh.html":   htmlOf(t, collect(t, usual()...), options(explain.Chinese)),
		"report.md.txt":    markdownOf(t, collect(t, usual()...), options(explain.English)),
		"report.zh.md.txt": markdownOf(t, collect(t, usual()...), options(explain.Chinese)),
	} {
		path := "testdata/" + name
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs; go test ./internal/report -update writes it", path)
		}
	}
}

// A page has the numbers, a ladder of both ends, the advice and the environment, and no ladder twice.
func TestContents(t *testing.T) {
	inUTC(t)
	page := htmlOf(t, collect(t, usual()...), options(explain.English))
	for _, want := range []string{
		"<b>121</b> endings", "<b>81</b> abnormal", "<b>41</b> RSTs sent", "<b>40</b> RSTs received", "nginx[4211]",
		"here:443", "148 B unread in the receive queue", "Read until EOF before close(2).", "<dd>6.12.48</dd>",
		"<dd>tcp_abort</dd>", "<li>3 records lost, 0 probes missed</li>", "night.rec.zst", "closetrace v1.2.3",
		"<b>40</b> <code>close.silent.closed.reset</code>", ">10.0.0.5:33042</text>", ">not seen</text>",
		`follows from another path: <a href="#close.rst.unread">`, "30 s per bar, from 2026-11-28 23:35:30 to 2026-11-29 00:01:00.",
	} {
		if !strings.Contains(page, want) && !strings.Contains(page, strings.ReplaceAll(want, "-", "&#45;")) {
			t.Errorf("%q is missing", want)
		}
	}
	if n := strings.Count(page, `<svg class="ladder"`); n != 2 {
		t.Errorf("%d ladders", n)
	}
}

// What others chose is text: it has no meaning in a page, in Markdown or for a terminal.
func TestHostileNames(t *testing.T) {
	const name = "<script>`|@x</script>\x1b[31m\u202e"
	all := connection(1, 0, name)
	all[0].Cause, all[1].Path = "<img src=x onerror=y>\n# [a](javascript:b)", "close.<b>\"'x"
	all[1].Peer = nil
	c := collect(t, all...)
	c.recordings[0].header = events.Header{Host: name, Kernel: name, Attach: name, Missing: []string{name}}
	c.recordings[0].remarks = nil
	o := Options{Language: explain.English, Version: name, Files: []string{name}}
	page := htmlOf(t, c, o)
	for _, bad := range []string{"<script", "<img", "<b>\"", "\x1b", "\u202e", "style=", "onerror=y>"} {
		if strings.Contains(page, bad) {
			t.Errorf("%q is in the page", bad)
		}
	}
	text := markdownOf(t, c, o)
	if strings.ContainsAny(text, "\x1b\u202e") {
		t.Error("not safe to print")
	}
	outside := strings.NewReplacer(`\[`, "", `\]`, "").Replace(outsideOfCode(text))
	if strings.ContainsAny(outside, "<>[]") || strings.Contains(outside, "@x") {
		t.Errorf("not in code:\n%s", outside)
	}
	if !strings.Contains(text, "``` <script>") && !strings.Contains(text, "``<script>") {
		t.Errorf("the name is not in\n%s", text)
	}
}

// outsideOfCode returns Markdown without its code spans and blocks, which a row of backticks begins and an equal one
// ends.
func outsideOfCode(text string) string {
	ticks := regexp.MustCompile("`+")
	text = strings.ReplaceAll(text, "\\`", "")
	var b strings.Builder
	for {
		begin := ticks.FindStringIndex(text)
		if begin == nil {
			return b.String() + text
		}
		b.WriteString(text[:begin[0]])
		fence := text[begin[0]:begin[1]]
		text = text[begin[1]:]
		for {
			end := ticks.FindStringIndex(text)
			if end == nil {
				return b.String() + fence + text
			}
			isEnd := text[end[0]:end[1]] == fence
			text = text[end[1]:]
			if isEnd {
				break
			}
		}
	}
}

// Every word exists in every language, with the same values, and each that a page asks for exists.
func TestWords(t *testing.T) {
	for key, english := range words[explain.English] {
		chinese := words[explain.Chinese][key]
		if chinese == "" || strings.Count(chinese, "%s") != strings.Count(english, "%s") {
			t.Errorf("%s: %q and %q", key, english, chinese)
		}
	}
	if len(words[explain.Chinese]) != len(words[explain.English]) {
		t.Error("Chinese has words that English lacks")
	}
	for _, found := range regexp.MustCompile(`\{\{[tp] "([^"]+)"`).FindAllStringSubmatch(pageText, -1) {
		if words[explain.English][found[1]] == "" {
			t.Errorf("the page asks for %q", found[1])
		}
	}
}

// A page loads nothing, and its policy says so.
func TestSelfContained(t *testing.T) {
	page := htmlOf(t, collect(t, usual()...), options(explain.English))
	if !strings.Contains(page, `http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; style-src`) {
		t.Error("no policy")
	}
	if found := regexp.MustCompile(`(?i)<script|<link|<img|<iframe|url\(|@import|https?:|\ssrc=|\sstyle=|\son\w+=`).
		FindString(page); found != "" {
		t.Errorf("%s is in the page", found)
	}
}

// Of many endings, by hundreds of processes from thousands of hosts, a page is smaller than 2 MB, and the collector
// keeps less than 100 MB.
func TestManyEndings(t *testing.T) {
	const endings = 100_000 // of more, all limits are reached as well
	c := New()
	paths := events.Paths()
	for n := range endings / 2 {
		for _, e := range connection(n, time.Duration(n)*7*time.Millisecond, fmt.Sprint("worker-", n%700))[:2] {
			e.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), e.Remote.Port())
			if n%3 == 0 {
				e.Path = paths[n/3%len(paths)].Path
			}
			e.Cause += strings.Repeat(" 9 B", n%50)
			c.Observe(e, true)
			if err := c.Write(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	page := htmlOf(t, c, options(explain.Chinese))
	if len(page) > 2_000_000 || len(page) < 100_000 {
		t.Errorf("%d bytes", len(page))
	}
	const maxElements = 20_000 // docs/report.md has how long 2,780 take
	elements := len(regexp.MustCompile(`<[a-z]`).FindAllString(page, -1))
	if elements > maxElements {
		t.Errorf("%d elements", elements)
	}
	if before.HeapAlloc > 100<<20 {
		t.Errorf("%d MB are kept", before.HeapAlloc>>20)
	}
	runtime.ReadMemStats(&after)
	t.Logf("%d endings: a page of %d bytes with %d elements, %d MB kept", endings, len(page), elements,
		before.HeapAlloc>>20)
}

// A report of nothing says so.
func TestNothing(t *testing.T) {
	for _, text := range []string{htmlOf(t, New(), Options{}), markdownOf(t, New(), Options{})} {
		if !strings.Contains(text, "No ending is in the recording.") {
			t.Error(text)
		}
	}
	ordinary := &events.Ending{Time: begin, Path: events.CloseFINActive, FIN: true, Local: server, Remote: server}
	if text := markdownOf(t, collect(t, ordinary), Options{}); !strings.Contains(text, "No ending was abnormal.") {
		t.Error(text)
	}
}

// A long ladder is cut, and the page says so.
func TestLongLadder(t *testing.T) {
	if v := (&view{Options: options(explain.English)}); v.counted("1", "cut") != "%s more step is not shown." ||
		v.counted("1", "more") != "and %s more in %s group" ||
		v.counted("1", "morefiles") != "%s more recording is not listed." {
		t.Error("singulars")
	}
	var all []*events.Ending
	for n := range 40 {
		e := keepalive(time.Duration(n) * time.Second)
		e.Before = events.Close
		e.Path, e.Trigger, e.MonoNS = events.AppWriteAfterReset, events.TriggerWrite, uint64(n)
		e.Evidence.Errno = int(syscall.EPIPE)
		all = append(all, e)
	}
	page := htmlOf(t, collect(t, all...), options(explain.English))
	if !strings.Contains(page, "more steps are not shown.") {
		t.Error("not cut")
	}
}
