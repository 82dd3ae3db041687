package why

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/logline"
)

var begin = time.Date(2026, 11, 28, 12, 1, 2, 0, time.UTC)

// reset returns the endings of a connection between two ports of addresses that one host has.
func reset(after time.Duration, client, server uint16) []*events.Ending {
	from := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.5"), client)
	to := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), server)
	at := begin.Add(after)
	nginx, app := &events.Task{PID: 4211, Comm: "nginx"}, &events.Task{PID: 977, Comm: "app"}
	return []*events.Ending{
		{
			Time: at, MonoNS: uint64(after) + 1, Path: events.CloseRSTUnread, Cause: "9 B unread", Trigger: events.TriggerClose,
			Actor: nginx, Local: to, Remote: from, RST: true, Before: events.Established, After: events.Close,
		},
		{
			Time: at.Add(time.Millisecond), MonoNS: uint64(after) + 2, Path: events.RecvRST, Title: "RST received",
			Cause: "in ESTABLISHED", Trigger: events.TriggerSegment, Owner: app, Local: from, Remote: to,
			Before: events.Established, After: events.Close,
			Evidence: events.Evidence{SockErr: int(syscall.ECONNRESET)},
			Peer:     &events.Past{Path: events.CloseRSTUnread, Actor: nginx},
		},
	}
}

func collect(t *testing.T, q Query, all ...[]*events.Ending) *Collector {
	t.Helper()
	c := New(q)
	write(t, c, all...)
	return c
}

func write(t *testing.T, c *Collector, all ...[]*events.Ending) {
	t.Helper()
	for _, endings := range all {
		for _, e := range endings {
			passing := *e // valid during Write only
			if err := c.Write(&passing); err != nil {
				t.Fatal(err)
			}
			passing = events.Ending{}
		}
	}
}

func answerOf(t *testing.T, c *Collector) string {
	t.Helper()
	library, err := explain.Open()
	if err != nil {
		t.Fatal(err)
	}
	return c.Print(library, Layout{})
}

func line(text string) Query { return Query{Line: logline.Parse(text)} }

// What names more of a connection finds it among those that have less of it, in any order.
func TestBestMatch(t *testing.T) {
	a, b, other := reset(0, 33042, 443), reset(time.Second, 33043, 443), reset(2*time.Second, 33042, 80)
	for name, tt := range map[string]struct {
		query string
		want  int
	}{
		"both ends":            {"10.0.0.5:33042 10.0.0.9:443", 1},
		"both, the other way":  {"10.0.0.9:443 -> 10.0.0.5:33042", 1},
		"one end":              {"10.0.0.9:443", 2},
		"a port":               {"33042", 2},
		"an address":           {"10.0.0.5", 3},
		"an address and port":  {"client 10.0.0.5 of port 80", 1},
		"another pair":         {"10.0.0.5:33042 10.0.0.9:444", 0},
		"another pair of many": {"from 10.0.0.5:33043 by 10.9.9.9:1", 1},
		"another address":      {"10.0.0.6", 0},
		"both ports":           {":33042 :80", 1},
	} {
		for _, order := range [][][]*events.Ending{{a, b, other}, {other, b, a}} {
			if n := collect(t, line(tt.query), order...).Found(); n != tt.want {
				t.Errorf("%s: %q: %d connections, want %d", name, tt.query, n, tt.want)
			}
		}
	}
}

// A health check may abort the connection before its handshake is complete at the other end, which then has no ending.
func TestProbeOfHandshake(t *testing.T) {
	const want = "No byte was exchanged: the handshake may have been in progress"
	probe := reset(0, 33042, 443)[:1]
	probe[0].Path = events.CloseRSTLinger0
	if got := answerOf(t, collect(t, line(":443"), probe)); !strings.Contains(got, want) {
		t.Errorf("%q is missing:\n%s", want, got)
	}
	probe[0].Evidence.BytesSent = 1
	if got := answerOf(t, collect(t, line(":443"), probe)); strings.Contains(got, want) {
		t.Errorf("a byte was sent:\n%s", got)
	}
}

// What took the socket from an application is not called a close of its own: a crash, an exit, another program, or a
// listener that was closed before it accepted the connection.
func TestHowTheSocketWasClosed(t *testing.T) {
	library, err := explain.Open()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		path             events.Path
		trigger          events.Trigger
		english, chinese string
	}{
		"close": {events.CloseRSTUnread, events.TriggerClose, "no error; it closed the socket.", "它关闭了套接字。"},
		"kill":  {events.CloseRSTUnread, events.TriggerSignal, "no error; it was killed by SIGKILL.", "它被 SIGKILL 杀死。"},
		"exit": {
			events.CloseRSTUnread, events.TriggerExit, "no error; it exited without closing the socket.",
			"它未关闭套接字就退出。",
		},
		"exec": {
			events.CloseRSTUnread, events.TriggerExecve, "no error; it started another program (close-on-exec).",
			"它执行了另一个程序（close-on-exec）。",
		},
		"not accepted": {
			events.CloseRSTChild, events.TriggerClose, "no error; it had not accepted the connection.",
			"它尚未 accept 这个连接。",
		},
		"kernel": {events.CloseRSTUnread, events.TriggerKernel, "no error; the socket was closed.", "套接字已关闭。"},
	} {
		ends := reset(0, 33042, 443)
		ends[0].Path, ends[0].Trigger, ends[0].Owner = tt.path, tt.trigger, ends[0].Actor
		ends[1].Peer.Path = tt.path
		if tt.trigger == events.TriggerSignal {
			ends[0].Signal = int(syscall.SIGKILL)
		}
		c := collect(t, line("33042"), ends)
		for language, want := range map[explain.Language]string{
			explain.English: "nginx[4211], 10.0.0.9:443: " + tt.english + "\n",
			explain.Chinese: "nginx[4211]，10.0.0.9:443：没有错误；" + tt.chinese + "\n",
		} {
			if got := c.Print(library, Layout{Width: 200, Language: language}); !strings.Contains(got, want) {
				t.Errorf("%s: %q is missing:\n%s", name, want, got)
			}
		}
		if json, err := c.JSON(); err != nil || !strings.Contains(json, `"seen":true,"closed":true}`) {
			t.Errorf("%s: %v: %s", name, err, json)
		}
	}
	// All that is known of an end may be what the other end reports.
	got := answerOf(t, collect(t, line("33042"), reset(0, 33042, 443)[1:]))
	if !strings.Contains(got, "10.0.0.9:443: no error; the socket was closed.") {
		t.Error(got)
	}
}

// A process has its connections with both ends, also where its own ending came last.
func TestProcess(t *testing.T) {
	all := reset(0, 33042, 443)
	all[0], all[1] = all[1], all[0]
	all[0].Owner = nil
	c := collect(t, Query{PID: 4211}, all, reset(time.Second, 33043, 443)[1:])
	if n := c.Found(); n != 1 {
		t.Errorf("%d connections", n)
	}
	if got := answerOf(t, c); !strings.Contains(got, "10.0.0.5:33042: ECONNRESET") {
		t.Errorf("the other end is missing:\n%s", got)
	}
	c = collect(t, Query{PID: 977, Line: logline.Parse(":443")}, reset(0, 1, 443), reset(0, 1, 80))
	if n := c.Found(); n != 1 {
		t.Errorf("of a port: %d connections", n)
	}
}

// Connections that had the same addresses, one after the other, are several, and the newest is shown.
func TestReusedAddresses(t *testing.T) {
	c := collect(t, line("10.0.0.5:33042 10.0.0.9:443"), reset(time.Minute, 33042, 443), reset(0, 33042, 443))
	if n := c.Found(); n != 2 {
		t.Errorf("%d connections", n)
	}
	got := answerOf(t, c)
	_, shown, _ := strings.Cut(got, "2 connections match. This is the newest; the others are listed below.\n\n")
	first, _, _ := strings.Cut(shown, "\n")
	if newest := begin.Add(time.Minute).Local().Format("15:04:05"); !strings.Contains(first, newest) {
		t.Errorf("not the newest:\n%s", got)
	}
	if strings.Count(got, "ECONNRESET") < 2 || !strings.Contains(got, "Other connections that match") {
		t.Error(got)
	}
}

// What a line says besides addresses chooses among the connections that match: the error, then the time.
func TestChoice(t *testing.T) {
	all := [][]*events.Ending{
		reset(0, 1, 443), ordinary(time.Second, 2), reset(time.Minute, 3, 443), ordinary(time.Hour, 4),
	}
	at := func(after time.Duration) string { return begin.Add(after).Local().Format("2006/01/02 15:04:05") }
	const newest = "4 connections match. This is the newest; the others are listed below. 10.0.0.9:443 and 10.0.0.5:4,"
	for text, want := range map[string]string{
		"10.0.0.9:443":                           newest,
		"10.0.0.9:443: connection reset by peer": "the newest with ECONNRESET; the others",
		"10.0.0.9:443: broken pipe":              newest,
		at(24*time.Hour) + " 10.0.0.9:443":       newest,
		at(time.Second) + " 10.0.0.9:443: connection reset by peer": "the newest with ECONNRESET at the time of the line; " +
			"the others are listed below. 10.0.0.9:443 and 10.0.0.5:1,",
		at(time.Second) + " prematurely closed 10.0.0.9:443": "the newest with EOF at the time of the line; " +
			"the others are listed below. 10.0.0.9:443 and 10.0.0.5:2,",
	} {
		got := strings.Join(strings.Fields(answerOf(t, collect(t, line(text), all...))), " ")
		if !strings.Contains(got, want) {
			t.Errorf("%s: %q is missing in\n%s", text, want, got)
		}
	}
}

// Both ends of loopback addresses are in one network namespace, of others perhaps not.
func TestNetworkNamespaces(t *testing.T) {
	a, b := reset(0, 33042, 443), reset(time.Second, 33042, 443)
	a[0].Netns, a[1].Netns = 1, 2
	if n := collect(t, line("33042"), a).Found(); n != 1 {
		t.Errorf("%d connections", n)
	}
	// With the sequence numbers of another connection, an end is not the other end of this one.
	c, d := reset(0, 33042, 443), reset(time.Millisecond, 33042, 443)
	d = d[1:]
	c = c[:1]
	for _, tt := range []struct {
		sent, received uint32
		want           int
	}{{5000, 7000, 1}, {5149, 7000, 1}, {0, 0, 1}, {1 << 31, 7000, 2}, {5000, 1 << 30, 2}} {
		c[0].Evidence.RcvNxt, c[0].Evidence.SndNxt = 5000, 7000
		d[0].Evidence.SndNxt, d[0].Evidence.RcvNxt = tt.sent, tt.received
		if n := collect(t, line("33042"), c, d).Found(); n != tt.want {
			t.Errorf("sequence numbers %d, %d: %d connections, want %d", tt.sent, tt.received, n, tt.want)
		}
	}
	loopback := netip.MustParseAddr("::1")
	for i, e := range append(a, b...) {
		e.Local, e.Remote = netip.AddrPortFrom(loopback, e.Local.Port()), netip.AddrPortFrom(loopback, e.Remote.Port())
		e.Netns = uint32(1 + i/2)
	}
	if n := collect(t, line("33042"), a, b).Found(); n != 2 {
		t.Errorf("loopback: %d connections", n)
	}
}

// What is kept is bounded, the newest stays, and the answer says how much was not kept.
func TestBounds(t *testing.T) {
	c := New(line("10.0.0.9"))
	const many = 2000
	for i := range many {
		for _, e := range reset(time.Duration(i)*time.Second, uint16(1000+i), 443) {
			for range 3 {
				if err := c.Write(e); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if len(c.pairs) != maxPairs || len(c.queue) != maxPairs {
		t.Errorf("%d pairs, %d in the queue", len(c.pairs), len(c.queue))
	}
	got := answerOf(t, c)
	for _, want := range []string{
		fmt.Sprintf("10.0.0.5:%d, 2026", 1000+many-1), "and 117 others",
		fmt.Sprintf("%s other endings were not kept.", events.Grouped(2*(many-maxPairs))),
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	one := New(line("443"))
	for i := range 4 * maxPerPair {
		e := reset(time.Duration(i)*time.Second, 33042, 443)[0]
		if err := one.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	for _, endings := range one.pairs {
		if len(endings) != maxPerPair || !endings[len(endings)-1].Time.After(begin.Add(500*time.Second)) {
			t.Errorf("%d endings, the last of %s", len(endings), endings[len(endings)-1].Time)
		}
	}
	p := New(Query{PID: 1})
	for i := range 2 * maxRecent {
		if err := p.Write(reset(time.Duration(i), 1, 2)[0]); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.recent) != maxRecent {
		t.Errorf("%d recent endings", len(p.recent))
	}
}

// ordinary returns the ending of an ordinary connection: the close of its server.
func ordinary(after time.Duration, client uint16) []*events.Ending {
	all := reset(after, client, 443)[:1]
	all[0].Path, all[0].RST, all[0].FIN, all[0].After = events.CloseFINActive, false, true, events.FinWait1
	return all
}

// busy returns the endings of more ordinary connections than are kept, one a minute from the first minute on.
func busy() [][]*events.Ending {
	var all [][]*events.Ending
	for i := range 300 {
		all = append(all, ordinary(time.Duration(1+i)*time.Minute, uint16(1000+i)))
	}
	return all
}

// What the query asks for first is kept, however many connections follow, and also if others have a part of it.
func TestWantedAreKept(t *testing.T) {
	at := func(after time.Duration) string { return begin.Add(after).Local().Format("2006/01/02 15:04:05") }
	const otherwise = "; the others are listed below. 10.0.0.9:443 and "
	const reset1 = "More than 128 connections match. This is the newest with ECONNRESET" + otherwise + "10.0.0.5:1,"
	for text, want := range map[string]string{
		"10.0.0.9:443: connection reset by peer":                        reset1,
		at(150*time.Minute) + " 10.0.0.9:443: connection reset by peer": reset1,
		at(2*time.Minute) + " 10.0.0.9:443": "newest at the time of the line" +
			otherwise + "10.0.0.5:1001,",
		at(2*time.Minute) + " prematurely closed 10.0.0.9:443": "with EOF at the time of the line" +
			otherwise + "10.0.0.5:1001,",
		"10.0.0.9:443": "More than 128 connections match. This is the newest" +
			otherwise + "10.0.0.5:1299,",
	} {
		c := collect(t, line(text), append([][]*events.Ending{reset(0, 1, 443)}, busy()...)...)
		if got := strings.Join(strings.Fields(answerOf(t, c)), " "); !strings.Contains(got, want) {
			t.Errorf("%s: %q is missing in\n%s", text, want, got)
		}
	}
	// Of too many that have the error, the newest are kept.
	var all [][]*events.Ending
	for i := range 200 {
		all = append(all, reset(time.Duration(i)*time.Second, uint16(1000+i), 443))
	}
	c := collect(t, line("10.0.0.9:443: connection reset by peer"), append(all, busy()...)...)
	if n := len(slices.DeleteFunc(c.connections(), func(n *connection) bool { return !n.asked })); n != maxPairs-1 {
		t.Errorf("%d with the error", n)
	}
	if got := answerOf(t, c); !strings.Contains(got, "10.0.0.5:1199, 2026") {
		t.Error(got)
	}
}

// A pair that was forgotten and comes back lacks what it had. It gets that back where all is read again, and else the
// answer does not say that the other end was not seen.
func TestForgottenPairComesBack(t *testing.T) {
	halves := reset(0, 1, 443)
	halves[1].Peer = nil
	halves[1].Time, halves[1].MonoNS = begin.Add(24*time.Hour), uint64(24*time.Hour)
	all := append([][]*events.Ending{halves[:1]}, append(busy(), halves[1:])...)
	for _, text := range []string{"10.0.0.9:443", "10.0.0.9:443: connection reset by peer"} {
		c := collect(t, line(text), all...)
		cut := answerOf(t, c)
		for _, want := range []string{
			"\n  10.0.0.9:443: not kept.\n", "\nNot kept\n  The end 10.0.0.9:443: ", "  not kept  ",
		} {
			if !strings.Contains(cut, want) {
				t.Errorf("%s: %q is missing in\n%s", text, want, cut)
			}
		}
		if strings.Contains(strings.ToLower(cut), "not seen") || !c.Evicted() {
			t.Errorf("%s:\n%s", text, cut)
		}
		c.Freeze()
		write(t, c, all...)
		if !c.isCut() {
			t.Error("whole before all was read")
		}
		c.Complete()
		whole := strings.Join(strings.Fields(answerOf(t, c)), " ")
		for _, want := range []string{
			"More than 128 connections match. ", "nginx[4211], 10.0.0.9:443: no error; it closed the socket.",
			"10.0.0.5:1: ECONNRESET.", "173 other endings were not kept.",
		} {
			if !strings.Contains(whole, want) {
				t.Errorf("%s: %q is missing in\n%s", text, want, whole)
			}
		}
		if strings.Contains(whole, "Not kept") || strings.Contains(strings.ToLower(whole), "not seen") {
			t.Errorf("%s:\n%s", text, whole)
		}
	}
}

// Names and causes come from recordings that others made.
func TestHostileText(t *testing.T) {
	all := reset(0, 33042, 443)
	all[0].Actor = &events.Task{PID: 1, Comm: "\x1b[2J\u202e"}
	all[0].Cause = "\x1b]0;title\a"
	all[1].Doubt = "\x1b"
	if got := answerOf(t, collect(t, line("33042"), all)); strings.ContainsAny(got, "\x1b\a\u202e") {
		t.Errorf("%q", got)
	}
}

func TestListenersAreNoConnections(t *testing.T) {
	e := reset(0, 33042, 443)[0]
	e.Remote = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	if n := collect(t, line("443"), []*events.Ending{e}).Found(); n != 0 {
		t.Errorf("%d connections", n)
	}
}
