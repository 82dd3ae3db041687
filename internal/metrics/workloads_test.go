package metrics

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/closetrace/closetrace/internal/events"
)

// known returns the workloads with endings of their own.
func known(t *testing.T, m *Metrics) []string {
	t.Helper()
	all := map[string]bool{}
	for _, s := range family(t, m, "closetrace_tcp_endings_total").Metric {
		for _, label := range s.Label {
			if label.GetName() == "workload" && label.GetValue() != Any {
				all[label.GetValue()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Another workload takes the place of one without an ending for a minute, and not of one that has some.
func TestLeastRecentlyUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := begun(Bounds{Workloads: 2, Series: 100, Expiry: 15 * time.Minute})
		for range 3 {
			m.Observe(anEnding("busy"), true)
			m.Observe(anEnding("idle"), true)
			m.Observe(anEnding("new"), true)
		}
		if got := known(t, m); !slices.Equal(got, []string{"busy", "idle", Other}) {
			t.Errorf("%q", got)
		}
		if n := testutil.ToFloat64(m.overflow); n != 3 {
			t.Errorf("%v over the bound", n)
		}
		time.Sleep(protected + time.Second)
		m.Observe(anEnding("busy"), true)
		m.Observe(anEnding("new"), true)
		if got := known(t, m); !slices.Equal(got, []string{"busy", "new", Other}) {
			t.Errorf("%q", got)
		}
		// One without an ending for the expiry is forgotten, also by a scrape alone.
		time.Sleep(10 * time.Minute)
		m.Observe(anEnding("busy"), true)
		time.Sleep(6 * time.Minute)
		if got := known(t, m); !slices.Equal(got, []string{"busy", Other}) {
			t.Errorf("%q", got)
		}
		if n := m.workloads.series; n != 2 {
			t.Errorf("%d series", n)
		}
	})
}

// Without an expiry no workload is forgotten, as long as there is a place for it.
func TestNoExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := begun(Bounds{Workloads: 2, Series: 100})
		m.Observe(anEnding("first"), true)
		time.Sleep(24 * time.Hour)
		m.Observe(anEnding("second"), true)
		time.Sleep(24 * time.Hour)
		if got := known(t, m); !slices.Equal(got, []string{"first", "second"}) {
			t.Errorf("%q", got)
		}
		m.Observe(anEnding("third"), true)
		if got := known(t, m); !slices.Equal(got, []string{"second", "third"}) {
			t.Errorf("%q", got)
		}
	})
}

// At the bound of series, further ones of known workloads are counted under other.
func TestSeriesBound(t *testing.T) {
	m := begun(Bounds{Workloads: 10, Series: 3, Expiry: time.Hour})
	m.Observe(anEnding("a"), true) // two series: the path and the RST
	m.Observe(anEnding("b"), true)
	m.Observe(&events.Ending{Path: events.CloseListen, Actor: &events.Task{Comm: "b"}}, false)
	m.Observe(anEnding("b"), true)
	if n := m.workloads.series; n != 3 {
		t.Errorf("%d series", n)
	}
	if n := testutil.ToFloat64(m.overflow); n != 3 {
		t.Errorf("%v over the bound", n)
	}
	sent := m.resets.WithLabelValues("sent", "TCP_ABORT_ON_CLOSE", Other)
	if n := testutil.ToFloat64(sent); n != 2 {
		t.Errorf("%v RSTs of other workloads", n)
	}
}

// Lower bounds forget at once what is over them, the least recently used first.
func TestLimit(t *testing.T) {
	m := begun(DefaultBounds())
	for i := range 20 {
		m.Observe(anEnding(fmt.Sprintf("app%c", 'a'+i)), true)
	}
	m.Limit(Bounds{Workloads: 3, Series: 4, Expiry: time.Hour})
	if got := known(t, m); !slices.Equal(got, []string{"apps", "appt"}) {
		t.Errorf("%q", got)
	}
}

// Stuck sockets have the workloads of endings, within the same bound.
func TestStuckBound(t *testing.T) {
	m := begun(Bounds{Workloads: 2, Series: 100, Expiry: time.Hour})
	m.Observe(anEnding("app"), true)
	found := Stuck{}
	for i := range 50 {
		found.Add(events.CloseWait, "leaked", fmt.Sprintf("p%d", i), time.Second)
	}
	found.Add(events.CloseWait, "leaked", "app", time.Second)
	m.SetStuck(found)
	sum, workloads := 0.0, []string{}
	for _, s := range family(t, m, "closetrace_sockets_stuck").Metric {
		sum += s.GetGauge().GetValue()
		workloads = append(workloads, s.Label[2].GetValue())
	}
	if len(workloads) != 3 || sum != 51 || !slices.Contains(workloads, "app") || !slices.Contains(workloads, Other) {
		t.Errorf("%v sockets of %q", sum, workloads)
	}
	if n := testutil.ToFloat64(m.overflow); n != 0 {
		t.Errorf("%v endings over the bound", n)
	}
}

func TestName(t *testing.T) {
	const id = "0f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
	const docker = "/system.slice/docker-" + id + ".scope"
	pod := func(namespace, name string) *events.ContainerNames {
		return &events.ContainerNames{Namespace: namespace, Pod: name, Name: "web"}
	}
	for _, test := range []struct {
		cgroup string
		names  *events.ContainerNames
		comm   string
		want   string
	}{
		{docker, pod("shop", "cart-7d4b9c6f5d-x2x9z"), "nginx", "shop/cart"},     // Deployment
		{docker, pod("shop", "backup-29912345-x2x9z"), "pg_dump", "shop/backup"}, // CronJob
		{docker, pod("shop", "backup-29942578-x2x9z"), "pg_dump", "shop/backup"},
		{docker, pod("shop", "backup-2991234-x2x9z"), "pg_dump", "shop/backup-2991234"}, // Job of that name
		{docker, pod("shop", "db-0"), "postgres", "shop/db"},                            // StatefulSet
		{docker, pod("kube-system", "proxy-x2x9z"), "proxy", "kube-system/proxy"},
		{docker, pod("shop", "cart-api"), "nginx", "shop/cart-api"}, // vowels are in no suffix
		{docker, pod("", "x2x9z"), "nginx", "x2x9z"},
		{docker, &events.ContainerNames{Name: "web"}, "nginx", "web"},
		{docker, nil, "nginx", "nginx"},
		{"/system.slice/nginx.service", nil, "nginx", "nginx.service"},
		{"/system.slice/system-getty.slice/getty@tty1.service", nil, "agetty", "getty@.service"},
		{"/system.slice/run-u1234.service", nil, "curl", "curl"},
		{"/user.slice/user-1000.slice/session-3.scope", nil, "curl", "curl"},
		{"/", nil, "pool-1-thread-12", "pool-1-thread"},
		{"/", nil, "kworker/0:1", "kworker"},
		{"/", nil, "worker1234", "worker"},
		{"/", nil, "python3", "python3"},
		{"/", nil, "1234", "1234"},
		{"/", nil, "", None},
		{"/", nil, Other, "program other"},
		{"/", nil, Any, "program any"},
		{"/", nil, "a\x1b[31m\xff\n", "a?[31m??"},
		{"/", nil, strings.Repeat("é", 200), strings.Repeat("é", 158)},
		// The longest names that Kubernetes has.
		{docker, pod(strings.Repeat("n", 63), strings.Repeat("p", 251)+"-0"), "x",
			strings.Repeat("n", 63) + "/" + strings.Repeat("p", 251)},
		{docker, pod(strings.Repeat("n", 63), strings.Repeat("p", 253)), "x",
			strings.Repeat("n", 63) + "/" + strings.Repeat("p", 253)},
	} {
		got := Name(test.cgroup, test.names, test.comm)
		if got != test.want || !utf8.ValidString(got) || len(got) > maxName {
			t.Errorf("%s %v %q: %q, want %q", test.cgroup, test.names, test.comm, got, test.want)
		}
	}
}

// A thread is of the workload of its process, and a socket without a call of that of its holder.
func TestNameOf(t *testing.T) {
	thread := &events.Task{Comm: "tokio-runtime-w", Process: "server"}
	if got := NameOf(&events.Ending{Actor: thread, Owner: &events.Task{Comm: "x"}}); got != "server" {
		t.Errorf("%q", got)
	}
	if got := NameOf(&events.Ending{Owner: &events.Task{Comm: "x"}}); got != "x" {
		t.Errorf("%q", got)
	}
	if got := NameOf(&events.Ending{Owner: &events.Task{PID: 7}}); got != "-" {
		t.Errorf("a process with an empty name: %q", got)
	}
	if got := NameOf(&events.Ending{}); got != None {
		t.Errorf("%q", got)
	}
}

// Whatever a process calls itself, a scrape works.
func FuzzName(f *testing.F) {
	f.Add("/system.slice/a.service", "ns", "pod", "a\xffb")
	f.Fuzz(func(t *testing.T, cgroup, namespace, pod, comm string) {
		m := begun(DefaultBounds())
		for _, names := range []*events.ContainerNames{nil, {Namespace: namespace, Pod: pod, Name: comm}} {
			e := anEnding(comm)
			e.Cgroup, e.ContainerNames, e.KernelReason = cgroup, names, pod
			m.Observe(e, true)
		}
		if _, err := m.registry.Gather(); err != nil {
			t.Error(err)
		}
	})
}
