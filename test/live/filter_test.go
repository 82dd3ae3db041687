//go:build linux

package live

import (
	"net/netip"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/probe"
)

// Each filter matches what it names and nothing else. They run in parallel, as
// attaching and detaching take seconds on some kernels, each on its own
// connections.
func TestFilters(t *testing.T) {
	l4, at4 := listen(t, loopback4)
	l6, at6 := listen(t, loopback6)
	var accepting sync.Mutex
	pair := func(t *testing.T, l int, addr netip.AddrPort) [2]conn {
		accepting.Lock()
		defer accepting.Unlock()
		a, b := connect(t, l, addr)
		return [2]conn{a, b}
	}
	t.Cleanup(func() {
		unix.Close(l4)
		unix.Close(l6)
	})
	var st unix.Stat_t
	must(t, unix.Stat("/proc/thread-self/ns/net", &st))
	root, known := rootCgroup(t)

	tests := []struct {
		name   string
		filter probe.Filter
		want   func(local, remote netip.AddrPort) bool
	}{
		{"all that is known of the sockets, and a local port",
			probe.Filter{Netns: []uint32{uint32(st.Ino)}, Cgroups: []uint64{1 << 60, root}, IPv4: true, IPv6: true,
				LocalPorts: []uint16{at4.Port(), at6.Port()}},
			func(l, _ netip.AddrPort) bool { return l.Port() == at4.Port() || l.Port() == at6.Port() }},
		{"one of two namespaces", probe.Filter{Netns: []uint32{uint32(st.Ino) + 1, uint32(st.Ino)}},
			func(_, _ netip.AddrPort) bool { return true }},
		{"another namespace", probe.Filter{Netns: []uint32{uint32(st.Ino) + 1}}, nothing},
		{"another cgroup", probe.Filter{Cgroups: []uint64{1 << 60}}, nothing},
		{"port", probe.Filter{Ports: []uint16{at4.Port()}},
			func(l, r netip.AddrPort) bool { return l.Port() == at4.Port() || r.Port() == at4.Port() }},
		{"IPv6, remote port", probe.Filter{IPv6: true, RemotePorts: []uint16{at4.Port(), at6.Port()}},
			func(_, r netip.AddrPort) bool { return r.Port() == at6.Port() }},
		{"IPv4", probe.Filter{IPv4: true}, func(l, _ netip.AddrPort) bool { return l.Addr().Is4() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if len(tt.filter.Cgroups) > 0 && !known {
				t.Skip("cgroup v2 is not mounted")
			}
			tr := trace(t, tt.filter)
			tr.self.Store(true)
			tr.mayMiss = true // but for what is missing below
			made, want := map[key]bool{}, map[key]bool{}
			for range 3 {
				for l, addr := range map[int]netip.AddrPort{l4: at4, l6: at6} {
					for _, c := range pair(t, l, addr) {
						must(t, unix.Close(c.fd))
						made[key{c.local, c.remote}] = true
						if tt.want(c.local, c.remote) {
							want[key{c.local, c.remote}] = true
						}
					}
				}
			}
			for _, e := range tr.finish(t) {
				k := key{e.Local, e.Remote}
				if made[k] && !want[k] {
					t.Errorf("%s %v was let through", e.Path, k)
				}
				delete(want, k)
			}
			if missed := int(tr.losses.MissedProbes); len(want) > missed {
				t.Errorf("held back, with %d probes missed: %v", missed, want)
			}
		})
	}
}

// rootCgroup returns the id of the root cgroup (v2). Every kernel of the matrix
// has it.
func rootCgroup(t *testing.T) (id uint64, known bool) {
	t.Helper()
	m, err := enrich.FindCgroups("/proc")
	if err != nil && os.Getenv("CLOSETRACE_LIVE") != "1" {
		return 0, false
	}
	must(t, err)
	id, err = m.ID(m.Dir)
	must(t, err)
	return id, true
}

func nothing(_, _ netip.AddrPort) bool { return false }
