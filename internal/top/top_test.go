package top

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

const sec = 1e9

var (
	nginx = &events.Task{PID: 7, Comm: "nginx"}
	app   = &events.Task{PID: 8, TID: 9, Comm: "worker", Process: "app"}
)

func ending(path events.Path, actor *events.Task, remote string) *events.Ending {
	e := &events.Ending{Path: path, Title: "title of " + string(path), Actor: actor}
	if remote != "" {
		e.Remote = netip.MustParseAddrPort(remote)
	}
	return e
}

func reset(actor *events.Task, remote string) *events.Ending {
	e := ending("close.rst.linger0", actor, remote)
	e.RST = true
	return e
}

func names(groups []Group) (all []string) {
	for _, g := range groups {
		all = append(all, fmt.Sprintf("%s %d", g.Key, g.Endings))
	}
	return all
}

func TestGroups(t *testing.T) {
	b := New(99 * sec)
	b.Add(ending("close.fin.active", nginx, "10.0.0.9:1"), 100*sec)
	b.Add(ending("close.fin.active", nginx, "[::ffff:10.0.0.9]:2"), 100*sec)
	b.Add(reset(app, "[2001:db8::1]:3"), 100*sec)
	received := ending("recv.rst", nil, "10.0.0.9:1")
	received.Owner = nginx
	b.Add(received, 101*sec)
	b.Add(ending("close.listen", app, "0.0.0.0:0"), 101*sec)
	b.Add(ending("reply.nosocket", nil, ""), 101*sec)
	for by, want := range map[Grouping][]string{
		ByPath:    {"close.fin.active 2", "close.listen 1", "close.rst.linger0 1", "recv.rst 1", "reply.nosocket 1"},
		ByProcess: {"nginx[7] 3", "app[8] 2", "kernel 1"},
		ByRemote:  {"10.0.0.9 3", "- 2", "2001:db8::1 1"},
		ByCgroup:  {"- 6"},
	} {
		if got := names(b.Groups(by, ByTotal, 102*sec)); !slices.Equal(got, want) {
			t.Errorf("by %s: got %q, want %q", by, got, want)
		}
	}
	total := Count{Endings: 6, Errors: 2, RSTSent: 1, RSTReceived: 1, PerSecond: 3}
	if got, want := b.Total(102*sec), total; got != want {
		t.Errorf("total: got %+v, want %+v", got, want)
	}
	for _, g := range b.Groups(ByPath, ByErrors, 102*sec)[:1] {
		want := Group{
			Key: Key{Path: "close.rst.linger0"}, Title: "title of close.rst.linger0", Worst: events.Severe,
			Count: Count{Endings: 1, Errors: 1, RSTSent: 1, PerSecond: 0.5},
		}
		if g != want {
			t.Errorf("got %+v, want %+v", g, want)
		}
	}
}

// A process with an empty name is not the kernel.
func TestGroupOfProcessWithoutName(t *testing.T) {
	b := New(99 * sec)
	b.Add(ending("close.fin.active", &events.Task{PID: 7}, "10.0.0.9:1"), 100*sec)
	if got := names(b.Groups(ByProcess, ByTotal, 101*sec)); !slices.Equal(got, []string{"-[7] 1"}) {
		t.Errorf("%q", got)
	}
}

// Of a connection, the port of the service counts, wherever it is.
func TestGroupsOfConnections(t *testing.T) {
	b := New(0)
	cgroup := "/system.slice/docker-" + strings.Repeat("0f", 32) + ".scope"
	for _, tt := range []struct{ local, remote, cgroup string }{
		{"10.0.0.5:443", "10.0.0.9:51234", cgroup},
		{"[::ffff:10.0.0.5]:443", "[::ffff:10.0.0.9]:51235", cgroup},
		{"10.0.0.5:40000", "10.0.0.7:443", "/system.slice/cron.service"},
		{"10.0.0.5:8080", "0.0.0.0:0", ""}, // a listener
		{"0.0.0.0:0", "0.0.0.0:0", ""},
	} {
		b.Add(&events.Ending{
			Path: "close.fin.active", Cgroup: tt.cgroup,
			Local: netip.MustParseAddrPort(tt.local), Remote: netip.MustParseAddrPort(tt.remote),
		}, 0)
	}
	for by, want := range map[Grouping][]string{
		ByPort:      {"443 3", "- 1", "8080 1"},
		ByService:   {"here:443 2", "- 1", "here:8080 1", "10.0.0.7:443 1"},
		ByContainer: {"- 3", "docker:0f0f0f0f0f0f 2"},
		ByCgroup:    {"- 2", cgroup + " 2", "/system.slice/cron.service 1"},
		ByPair:      {"- 2", "10.0.0.5 10.0.0.9 2", "10.0.0.5 10.0.0.7 1"},
	} {
		if got := names(b.Groups(by, ByTotal, 0)); !slices.Equal(got, want) {
			t.Errorf("by %s: got %q, want %q", by, got, want)
		}
	}
}

func TestOrders(t *testing.T) {
	b := New(0)
	for range 3 {
		b.Add(ending("a", nil, ""), 0) // most in total
	}
	for range 2 {
		b.Add(ending("b", nil, ""), 12*sec) // most in the last seconds
	}
	b.Add(reset(nil, ""), 0) // the only error
	for o, want := range map[Order][]string{
		ByRate:   {"b 2", "a 3", "close.rst.linger0 1"},
		ByTotal:  {"a 3", "b 2", "close.rst.linger0 1"},
		ByErrors: {"close.rst.linger0 1", "a 3", "b 2"},
		ByName:   {"a 3", "b 2", "close.rst.linger0 1"},
	} {
		if got := names(b.Groups(ByPath, o, 13*sec)); !slices.Equal(got, want) {
			t.Errorf("by %s: got %q, want %q", o, got, want)
		}
	}
	if len(Orders()) != 4 {
		t.Error("an order is not tested")
	}
}

// A rate agrees with counting the endings of the last ten complete seconds.
func TestRate(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		const began = 1000
		var r rate
		var seconds []uint64
		now := uint64(began)
		for range 200 {
			now += uint64(random.IntN(10)) / 4 * uint64(random.IntN(8))
			if random.IntN(3) > 0 {
				r.add(now)
				seconds = append(seconds, now)
			}
			from, n := max(began+1, now-10), 0
			for _, s := range seconds {
				if s >= from && s < now {
					n++
				}
			}
			want := 0.0
			if now > from {
				want = float64(n) / float64(now-from)
			}
			if got := r.mean(began, now); got != want {
				t.Fatalf("second %d: got %v, want %v of %v", now, got, want, seconds)
			}
		}
	}
}

// The memory of a board is bounded, and what exceeds it is counted as others.
func TestOthers(t *testing.T) {
	b := New(0)
	const more = 100
	for i := range 512 + more {
		b.Add(ending("close.fin.active", &events.Task{PID: uint32(i + 1), Comm: "x"}, ""), 0)
	}
	b.Add(ending("close.fin.active", &events.Task{PID: 1, Comm: "x"}, ""), 0)
	groups := b.Groups(ByProcess, ByTotal, 0)
	if len(groups) != 512+1 {
		t.Errorf("%d groups", len(groups))
	}
	if got, want := names(groups)[:2], []string{"(others) 100", "x[1] 2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if last := b.Groups(ByProcess, ByName, 0)[512]; !last.Others {
		t.Errorf("by name, %s is last", last.Key)
	}
	sum := uint64(0)
	for _, g := range groups {
		sum += g.Endings
	}
	if total := b.Total(0).Endings; sum != total {
		t.Errorf("the groups have %d endings of %d", sum, total)
	}
	if n := len(b.Last(ByProcess, Key{Others: true}, false)); n != 16 {
		t.Errorf("%d endings of the others", n)
	}
}

func TestLast(t *testing.T) {
	b := New(0)
	e := ending("close.fin.active", nginx, "10.0.0.9:1")
	for i := range 16 + 5 {
		e.MonoNS = uint64(i)
		b.Add(e, 0)
		last := b.Last(ByPath, Key{Path: "close.fin.active"}, false)
		if len(last) != min(i+1, 16) {
			t.Fatalf("%d endings after %d", len(last), i+1)
		}
		for j, e := range last {
			if e.MonoNS != uint64(i-j) {
				t.Fatalf("after %d endings, %d is at %d", i+1, e.MonoNS, j)
			}
		}
	}
	e = reset(nginx, "10.0.0.9:1")
	e.Path = "close.fin.active"
	b.Add(e, 0)
	for range 16 {
		b.Add(ending("close.fin.active", nginx, "10.0.0.9:1"), 0)
	}
	if last := b.Last(ByPath, Key{Path: "close.fin.active"}, true); len(last) != 1 || !last[0].RST {
		t.Errorf("%d abnormal endings", len(last))
	}
	if last := b.Last(ByRemote, Key{Path: "no such"}, false); last != nil {
		t.Errorf("%d endings of nothing", len(last))
	}
}

func TestClone(t *testing.T) {
	b := New(5)
	b.Add(reset(app, "10.0.0.9:1"), 5)
	c := b.Clone()
	for range 16 + 1 {
		b.Add(ending("close.fin.active", app, "10.0.0.9:1"), 5)
	}
	if got := names(c.Groups(ByProcess, ByTotal, 5)); !slices.Equal(got, []string{"app[8] 1"}) {
		t.Errorf("got %q", got)
	}
	if last := c.Last(ByProcess, Key{PID: 8, Name: "app"}, false); len(last) != 1 || !last[0].RST {
		t.Errorf("got %v", last)
	}
	if c.Began() != 5 || c.Total(5).Endings != 1 {
		t.Errorf("began at %d with %+v", c.Began(), c.Total(5))
	}
}

func BenchmarkAdd(b *testing.B) {
	board := New(0)
	e := reset(nginx, "10.0.0.9:1")
	b.ReportAllocs()
	for i := range b.N {
		board.Add(e, uint64(i)*1000)
	}
}
