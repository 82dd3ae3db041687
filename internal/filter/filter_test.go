package filter

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/closetrace/closetrace/internal/events"
)

func TestPattern(t *testing.T) {
	for _, tt := range []struct {
		pattern, path string
		want          bool
	}{
		{"close.rst.unread", "close.rst.unread", true},
		{"close.rst.unread", "close.rst.unreadable", false},
		{"close.silent.closed", "close.silent.closed", true},
		{"close.silent.closed", "close.silent.closed.reset", true},
		{"close", "close.fin.active", true},
		{"clos", "close.fin.active", false},
		{"close.rst.*", "close.rst.oom", true},
		{"close.rst.*", "close.rst", false},
		{"*.rst", "recv.rst", true},
		{"*.rst", "close.rst.oom", false},
		{"*.rst*", "close.rst.oom", true},
		{"*", "recv.fin", true},
		{"a*a", "a", false},
		{"a*b*c", "abc", true},
		{"a*b*c", "acb", false},
		{"", "recv.fin", false},
		{".", "recv.fin", false},
	} {
		if got := Pattern(tt.pattern).Covers(events.Path(tt.path)); got != tt.want {
			t.Errorf("%q covers %s: %v", tt.pattern, tt.path, got)
		}
	}
}

func TestWords(t *testing.T) {
	received := &events.Ending{Path: "recv.rst"}
	sent := &events.Ending{Path: "abort.diag", RST: true}
	both := &events.Ending{Path: "close.rst.oom", RST: true, FIN: true}
	fin := &events.Ending{Path: "recv.fin"}
	for _, tt := range []struct {
		word Pattern
		e    *events.Ending
		want bool
	}{
		{"rst", received, true}, {"rst", sent, true}, {"rst", both, true}, {"rst", fin, false},
		{"fin", received, false}, {"fin", sent, false}, {"fin", both, true}, {"fin", fin, true},
		{"errors", received, true}, {"errors", fin, false},
	} {
		if got := tt.word.Names(tt.e); got != tt.want {
			t.Errorf("%s names %s: %v", tt.word, tt.e.Path, got)
		}
	}
	for _, w := range Words() {
		if words[Pattern(w)] == nil {
			t.Errorf("%s is no word", w)
		}
	}
	if len(Words()) != len(words) {
		t.Error("not all words are listed")
	}
}

func TestEndings(t *testing.T) {
	e := &events.Ending{
		Path: "close.rst.unread", RST: true, Before: events.Established,
		Actor: &events.Task{Comm: "kworker/0:1"}, Owner: &events.Task{Comm: "nginx"},
		Local: netip.MustParseAddrPort("[::ffff:10.0.0.5]:443"), Remote: netip.MustParseAddrPort("[2001:db8::1]:5"),
		Evidence: events.Evidence{UnreadBytes: 148},
	}
	nets := func(s ...string) (all []netip.Prefix) {
		for _, n := range s {
			all = append(all, netip.MustParsePrefix(n))
		}
		return all
	}
	for name, tt := range map[string]struct {
		f    Endings
		want bool
	}{
		"nothing asked":          {Endings{}, true},
		"only":                   {Endings{Only: []Pattern{"recv", "close.rst.*"}}, true},
		"only others":            {Endings{Only: []Pattern{"recv"}}, false},
		"not":                    {Endings{Not: []Pattern{"rst"}}, false},
		"not others":             {Endings{Not: []Pattern{"fin"}}, true},
		"only and not":           {Endings{Only: []Pattern{"close"}, Not: []Pattern{"close.rst.unread"}}, false},
		"errors":                 {Endings{Errors: true}, true},
		"errors of another kind": {Endings{Errors: true, Only: []Pattern{"recv"}}, false},
		"owner's name":           {Endings{Comms: []string{"sshd", "nginx"}}, true},
		"actor's, by a pattern":  {Endings{Comms: []string{"kworker*"}}, true},
		"another name":           {Endings{Comms: []string{"ngin"}}, false},
		"local network":          {Endings{Nets: nets("10.0.0.0/8")}, true},
		"remote network":         {Endings{Nets: nets("1.1.1.1/32", "2001:db8::/32")}, true},
		"another network":        {Endings{Nets: nets("10.0.1.0/24", "::/128")}, false},
		"state":                  {Endings{States: []events.State{events.CloseWait, events.Established}}, true},
		"another state":          {Endings{States: []events.State{events.CloseWait}}, false},
		"unread":                 {Endings{MinUnread: 148}, true},
		"less unread":            {Endings{MinUnread: 149}, false},
	} {
		if got := tt.f.Wants(e); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if f := (Endings{Comms: []string{"*"}}); f.Wants(&events.Ending{}) {
		t.Error("a name of nobody")
	}
}

func TestFacts(t *testing.T) {
	const id = "0f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
	ev := &events.Event{
		Kind: events.KindClose, Flags: events.TaskContext, Task: events.Task{PID: 7}, Netns: 5,
		CgroupID: 8, Cgroup: "/system.slice/cron.service", SocketCgroupID: 9, SocketCgroup: "/docker/" + id + "/x",
		Local: netip.MustParseAddrPort("[::ffff:10.0.0.5]:443"), Remote: netip.MustParseAddrPort("[::ffff:10.0.0.9]:50000"),
	}
	for name, tt := range map[string]struct {
		f    Facts
		want bool
	}{
		"nothing asked":   {Facts{}, true},
		"process":         {Facts{PIDs: []uint32{6, 7}}, true},
		"another process": {Facts{PIDs: []uint32{6}}, false},
		"port":            {Facts{Ports: []uint16{50000}}, true},
		"other ports":     {Facts{Ports: []uint16{80}}, false},
		"local port":      {Facts{LocalPorts: []uint16{443}}, true},
		"not local":       {Facts{LocalPorts: []uint16{50000}}, false},
		"remote port":     {Facts{RemotePorts: []uint16{50000}}, true},
		"not remote":      {Facts{RemotePorts: []uint16{443}}, false},
		"IPv4":            {Facts{IPv4: true}, true},
		"IPv6":            {Facts{IPv6: true}, false},
		"both":            {Facts{IPv4: true, IPv6: true}, true},
		"namespace":       {Facts{Netns: 5}, true},
		"another":         {Facts{Netns: 6}, false},
		"socket's cgroup": {Facts{Cgroups: []string{"/none", "/docker"}}, true},
		"task's cgroup":   {Facts{Cgroups: []string{"/system.slice/cron.service"}}, true},
		"another cgroup":  {Facts{Cgroups: []string{"/system.slice/cron", "/dock"}}, false},
		"container":       {Facts{Containers: []string{"0f4b"}}, true},
		"no container":    {Facts{Containers: []string{"cron", "x"}}, false},
		"either of them":  {Facts{Cgroups: []string{"/dock"}, Containers: []string{id}}, true},
		"all must hold":   {Facts{PIDs: []uint32{7}, Ports: []uint16{80}}, false},
	} {
		if got := tt.f.Wants(ev); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	byPID := Facts{PIDs: []uint32{7}}
	if byPID.Wants(&events.Event{Kind: events.KindDone, Task: events.Task{PID: 7}}) {
		t.Error("a segment is nobody's call, whatever task it interrupts")
	}
	byCgroup := Facts{Cgroups: []string{"/system.slice"}}
	if ev.Flags = 0; byCgroup.Wants(ev) {
		t.Error("the cgroup of a task that was interrupted")
	}
	if byCgroup = (Facts{Cgroups: []string{"/"}}); byCgroup.Wants(&events.Event{Kind: events.KindReply}) {
		t.Error("a cgroup of nobody's socket")
	}
	if !byPID.Wants(&events.Event{Kind: events.KindWaitOver}) {
		t.Error("the end of a wait names its socket only")
	}
}

// A pattern of any length means what the same regular expression means.
func FuzzMatches(f *testing.F) {
	for _, seed := range [][2]string{{"close.rst.*", "close.rst.oom"}, {"a*a", "a"}, {"**", ""}, {"", "x"}, {"*\xff", "\xff\n"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if !utf8.ValidString(pattern) || !utf8.ValidString(text) || len(pattern) > 500 {
			return // which regular expressions do not take
		}
		parts := strings.Split(pattern, "*")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		want := regexp.MustCompile("(?s)^" + strings.Join(parts, ".*") + "$").MatchString(text)
		if got := matches(pattern, text); got != want {
			t.Errorf("%q matches %q: %v", pattern, text, got)
		}
	})
}
