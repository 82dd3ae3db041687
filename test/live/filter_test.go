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

// Each filter lets through what it names and nothing else. They run side by side,
// as attaching and detaching takes seconds of waiting on some kernels: each
// looks at its own connections. Those that let through are tried together.
func TestFilters(t *testing.T) {
	l4, at4 := listen(t, loopback4)
	l6, at6 := listen(t, loopback6)
	var accepting sync.Mutex
	pair := func(t *testing.T, l int, at netip.AddrPort) [2]conn {
		accepting.Lock()
		defer accepting.Unlock()
		a, b := connect(t, l, at)
		return [2]conn{a, b}
	}
	t.Cleanup(func() {
		unix.Close(l4)
		unix.Close(l6)
	})
	var st unix.Stat_t
	must(t, unix.Stat("/proc/thread-self/ns/net", &st))
	self := uint32(os.Getpid())
	root, known := rootCgroup(t)

	tests := []struct {
		name   string
		filter probe.Filter
		want   func(local, remote netip.AddrPort) bool
	}{
		{"all that is known of this process, and a local port",
			probe.Filter{PIDs: []uint32{1 << 22, self}, Netns: uint32(st.Ino), Cgroups: []uint64{1 << 60, root}, IPv4: true, IPv6: true,
				LocalPorts: []uint16{at4.Port(), at6.Port()}},
			func(l, _ netip.AddrPort) bool { return l.Port() == at4.Port() || l.Port() == at6.Port() }},
		{"another process", probe.Filter{PIDs: []uint32{1 << 22}}, nothing},
		{"another namespace", probe.Filter{PIDs: []uint32{self}, Netns: uint32(st.Ino) + 1}, nothing},
		{"another cgroup", probe.Filter{PIDs: []uint32{self}, Cgroups: []uint64{1 << 60}}, nothing},
		{"port", probe.Filter{PIDs: []uint32{self}, Ports: []uint16{at4.Port()}},
			func(l, r netip.AddrPort) bool { return l.Port() == at4.Port() || r.Port() == at4.Port() }},
		{"IPv6, remote port", probe.Filter{PIDs: []uint32{self}, IPv6: true, RemotePorts: []uint16{at4.Port(), at6.Port()}},
			func(_, r netip.AddrPort) bool { return r.Port() == at6.Port() }},
		{"IPv4", probe.Filter{PIDs: []uint32{self}, IPv4: true}, func(l, _ netip.AddrPort) bool { return l.Addr().Is4() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if len(tt.filter.Cgroups) > 0 && !known {
				t.Skip("cgroup v2 is not mounted")
			}
			tr := trace(t, tt.filter)
			tr.mayMiss = true // but for what is missing below
			made, want := map[key]bool{}, map[key]bool{}
			for range 3 {
				for l, at := range map[int]netip.AddrPort{l4: at4, l6: at6} {
					for _, c := range pair(t, l, at) {
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

// rootCgroup is the id of the cgroup (v2) that all others are below. Every kernel
// of the matrix has it.
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
