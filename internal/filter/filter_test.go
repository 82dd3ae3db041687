package filter

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
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
		if got := tt.word.Match(tt.e); got != tt.want {
			t.Errorf("%s matches %s: %v", tt.word, tt.e.Path, got)
		}
	}
	for _, w := range Words() {
		if words[Pattern(w)] == nil {
			t.Errorf("%s is not a word", w)
		}
	}
	if len(Words()) != len(words) {
		t.Error("not all words are listed")
	}
}

func TestEndings(t *testing.T) {
	at := time.Unix(1000, 0)
	ends := func(a, b string) [2]netip.AddrPort {
		return [2]netip.AddrPort{netip.MustParseAddrPort(a), netip.MustParseAddrPort(b)}
	}
	e := &events.Ending{
		Path: "close.rst.unread", RST: true, Before: events.Established,
		Actor: &events.Task{Comm: "kworker/0:1"}, Owner: &events.Task{Comm: "nginx", UID: 33}, Time: at,
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
		"no filter":              {Endings{}, true},
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
		"without the local port": {Endings{NotPorts: []uint16{443}}, false},
		"without the remote":     {Endings{NotPorts: []uint16{80, 5}}, false},
		"without other ports":    {Endings{NotPorts: []uint16{80}}, true},
		"owner's user":           {Endings{UIDs: []uint32{33}}, true},
		"another user":           {Endings{UIDs: []uint32{34}}, false},
		"its ends":               {Endings{Connections: [][2]netip.AddrPort{ends("10.0.0.5:443", "[2001:db8::1]:5")}}, true},
		"its ends, turned":       {Endings{Connections: [][2]netip.AddrPort{ends("[2001:db8::1]:5", "10.0.0.5:443")}}, true},
		"one of its ends":        {Endings{Connections: [][2]netip.AddrPort{ends("10.0.0.5:443", "[2001:db8::1]:6")}}, false},
		"since then":             {Endings{Since: at}, true},
		"since later":            {Endings{Since: at.Add(1)}, false},
		"until then":             {Endings{Until: at}, true},
		"until earlier":          {Endings{Until: at.Add(-1)}, false},
	} {
		if got := tt.f.Match(e); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if f := (Endings{Comms: []string{"*"}}); f.Match(&events.Ending{}) {
		t.Error("an ending without a process matches a name")
	}
}

// What the plan of the kernel side depends on stays in the filter.
func TestWithoutParty(t *testing.T) {
	f := Endings{Only: []Pattern{"rst"}, Errors: true, PIDs: []uint32{1}, Comms: []string{"x"}, UIDs: []uint32{1},
		NotPorts: []uint16{1}, Connections: make([][2]netip.AddrPort, 1), Nets: make([]netip.Prefix, 1),
		Since: time.Unix(1, 0), Until: time.Unix(2, 0)}
	wide := f.WithoutParty()
	if !wide.Match(&events.Ending{Path: "recv.rst"}) {
		t.Error("a process, an address or a time still matters")
	}
	if wide.Match(&events.Ending{Path: "close.fin.active", FIN: true}) {
		t.Error("the path does not matter any more")
	}
}

// Filters that exclude each other are found, and no others.
func TestContradiction(t *testing.T) {
	only := func(only, not []Pattern) Endings { return Endings{Only: only, Not: not} }
	v6 := []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}
	at := time.Unix(1000, 0)
	for name, tt := range map[string]struct {
		ev   Events
		f    Endings
		want bool
	}{
		"nothing":           {Events{}, Endings{}, false},
		"the same word":     {Events{}, only([]Pattern{"rst"}, []Pattern{"rst"}), true},
		"one of two words":  {Events{}, only([]Pattern{"rst", "fin"}, []Pattern{"rst"}), false},
		"both words":        {Events{}, only([]Pattern{"rst", "fin"}, []Pattern{"fin", "rst"}), true},
		"a word and a path": {Events{}, only([]Pattern{"rst"}, []Pattern{"recv.rst"}), false},
		"the family":        {Events{}, only([]Pattern{"close.rst"}, []Pattern{"close"}), true},
		"part of it":        {Events{}, only([]Pattern{"close.rst"}, []Pattern{"close.rst.unread"}), false},
		"all but a word":    {Events{}, only([]Pattern{"close.rst"}, []Pattern{"fin"}), false},
		"errors":            {Events{}, Endings{Errors: true, Not: []Pattern{"errors"}}, true},
		"errors, not rst":   {Events{}, Endings{Errors: true, Not: []Pattern{"rst"}}, false},
		"never an error":    {Events{}, Endings{Errors: true, Only: []Pattern{"reply.embryonic"}}, true},
		"perhaps an error":  {Events{}, Endings{Errors: true, Only: []Pattern{"reply.embryonic", "close.fin.active"}}, false},
		"a word of errors":  {Events{}, Endings{Errors: true, Only: []Pattern{"fin"}}, false},
		"excluded ports":    {Events{Ports: []uint16{80, 81}}, Endings{NotPorts: []uint16{81, 80}}, true},
		"one excluded port": {Events{Ports: []uint16{80, 81}}, Endings{NotPorts: []uint16{80}}, false},
		"a remote port":     {Events{RemotePorts: []uint16{80}}, Endings{NotPorts: []uint16{80}}, true},
		"three ports":       {Events{Ports: []uint16{1}, LocalPorts: []uint16{2}, RemotePorts: []uint16{3}}, Endings{}, true},
		"one of three":      {Events{Ports: []uint16{3}, LocalPorts: []uint16{2}, RemotePorts: []uint16{3}}, Endings{}, false},
		"two ports":         {Events{Ports: []uint16{1}, LocalPorts: []uint16{2}}, Endings{}, false},
		"IPv4 in IPv6":      {Events{IPv4: true}, Endings{Nets: v6}, true},
		"IPv6":              {Events{IPv6: true}, Endings{Nets: v6}, false},
		"both":              {Events{IPv4: true, IPv6: true}, Endings{Nets: v6}, false},
		"until before":      {Events{}, Endings{Since: at, Until: at.Add(-1)}, true},
		"until then":        {Events{}, Endings{Since: at, Until: at}, false},
	} {
		if why := Contradiction(&tt.ev, &tt.f); (why != "") != tt.want {
			t.Errorf("%s: %q", name, why)
		}
	}
}

// A process is that of the actor or of the owner, and is known by the name of the thread or of the process.
func TestProcesses(t *testing.T) {
	worker := &events.Task{PID: 7, TID: 9, Comm: "worker-1", Process: "java"}
	for name, tt := range map[string]struct {
		f    Endings
		e    events.Ending
		want bool
	}{
		"its own call":             {Endings{PIDs: []uint32{6, 7}}, events.Ending{Actor: worker}, true},
		"what happens to it":       {Endings{PIDs: []uint32{7}}, events.Ending{Owner: worker}, true},
		"killed by another":        {Endings{PIDs: []uint32{7}}, events.Ending{Actor: &events.Task{PID: 1}, Owner: worker}, true},
		"another process":          {Endings{PIDs: []uint32{6}}, events.Ending{Actor: worker}, false},
		"a thread is no process":   {Endings{PIDs: []uint32{9}}, events.Ending{Actor: worker}, false},
		"nobody known":             {Endings{PIDs: []uint32{7}}, events.Ending{}, false},
		"by the process's name":    {Endings{Comms: []string{"jav*"}}, events.Ending{Owner: worker}, true},
		"by the thread's name":     {Endings{Comms: []string{"worker-*"}}, events.Ending{Actor: worker}, true},
		"by another name":          {Endings{Comms: []string{"nginx"}}, events.Ending{Actor: worker}, false},
		"both filters must match":  {Endings{PIDs: []uint32{7}, Comms: []string{"nginx"}}, events.Ending{Actor: worker}, false},
		"a name that is not there": {Endings{Comms: []string{""}}, events.Ending{Actor: &events.Task{PID: 1, Comm: "x"}}, false},
	} {
		if got := tt.f.Match(&tt.e); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
		if tt.f.Empty() {
			t.Errorf("%s: the filter is considered empty", name)
		}
	}
}

func TestEvents(t *testing.T) {
	const id = "0f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
	ev := &events.Event{
		Kind: events.KindClose, Flags: events.TaskContext, Task: events.Task{PID: 7}, Netns: 5,
		CgroupID: 8, Cgroup: "/system.slice/cron.service", SocketCgroupID: 9, SocketCgroup: "/docker/" + id + "/x",
		Local: netip.MustParseAddrPort("[::ffff:10.0.0.5]:443"), Remote: netip.MustParseAddrPort("[::ffff:10.0.0.9]:50000"),
	}
	for name, tt := range map[string]struct {
		f    Events
		want bool
	}{
		"no filter":       {Events{}, true},
		"port":            {Events{Ports: []uint16{50000}}, true},
		"other ports":     {Events{Ports: []uint16{80}}, false},
		"local port":      {Events{LocalPorts: []uint16{443}}, true},
		"not local":       {Events{LocalPorts: []uint16{50000}}, false},
		"remote port":     {Events{RemotePorts: []uint16{50000}}, true},
		"not remote":      {Events{RemotePorts: []uint16{443}}, false},
		"IPv4":            {Events{IPv4: true}, true},
		"IPv6":            {Events{IPv6: true}, false},
		"both":            {Events{IPv4: true, IPv6: true}, true},
		"namespace":       {Events{Netns: []uint32{6, 5}}, true},
		"another":         {Events{Netns: []uint32{6, 7}}, false},
		"socket's cgroup": {Events{Cgroups: []string{"/none", "/docker"}}, true},
		"task's cgroup":   {Events{Cgroups: []string{"/system.slice/cron.service"}}, true},
		"another cgroup":  {Events{Cgroups: []string{"/system.slice/cron", "/dock"}}, false},
		"container":       {Events{Containers: []string{"0f4b"}}, true},
		"no container":    {Events{Containers: []string{"cron", "x"}}, false},
		"either of them":  {Events{Cgroups: []string{"/dock"}, Containers: []string{id}}, true},
		"all must hold":   {Events{Netns: []uint32{5}, Ports: []uint16{80}}, false},
	} {
		if got := tt.f.Match(ev); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	byCgroup := Events{Cgroups: []string{"/system.slice"}}
	if ev.Flags = 0; byCgroup.Match(ev) {
		t.Error("a segment matches the cgroup of the task that it interrupts")
	}
	if byCgroup = (Events{Cgroups: []string{"/"}}); byCgroup.Match(&events.Event{Kind: events.KindReply}) {
		t.Error("a RST without a socket matches a cgroup")
	}
	if byPort := (Events{Ports: []uint16{80}}); !byPort.Match(&events.Event{Kind: events.KindWaitOver}) {
		t.Error("the end of a wait does not match")
	}
}

// A pattern of any length means what the same regular expression means.
func FuzzMatches(f *testing.F) {
	for _, seed := range [][2]string{
		{"close.rst.*", "close.rst.oom"}, {"a*a", "a"}, {"**", ""}, {"", "x"}, {"*\xff", "\xff\n"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if !utf8.ValidString(pattern) || !utf8.ValidString(text) || len(pattern) > 500 {
			return // not valid for regular expressions
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
