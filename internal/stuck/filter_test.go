package stuck

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/sockets"
)

// Filters select sockets by what is shown of them, and never-accepted ones by the holder of their listener.
func TestFilter(t *testing.T) {
	listener := netip.MustParseAddrPort("10.0.0.5:81")
	snapshot := &sockets.Snapshot{
		Sockets: sockets.NewList(
			sockets.Socket{State: events.CloseWait, Inode: 1, Local: here, Remote: there},
			sockets.Socket{State: events.FinWait2, Inode: 2, Remote: there, Local: netip.MustParseAddrPort("10.0.0.6:9")},
			sockets.Socket{State: events.CloseWait, Local: listener, Remote: netip.MustParseAddrPort("[2001:db8::9]:5")},
			sockets.Socket{State: events.Listen, Inode: 3, Local: listener, ReceiveQueue: 2, SendQueue: 1},
		),
		Holders: sockets.HoldersOf(map[uint64][]sockets.Holder{1: {parent}, 2: {child}, 3: {parent}}),
	}
	const app, open, queued, full = "8080", "9", "81 CLOSE_WAIT", "81 LISTEN"
	nets := []netip.Prefix{netip.MustParsePrefix("10.0.0.6/32")}
	for name, tt := range map[string]struct {
		f    Filter
		want []string
	}{
		"none":        {Filter{}, []string{app, open, queued, full}},
		"port":        {Filter{Events: filter.Events{Ports: []uint16{8080, 5}}}, []string{app, queued}},
		"local port":  {Filter{Events: filter.Events{LocalPorts: []uint16{81}}}, []string{queued, full}},
		"remote port": {Filter{Events: filter.Events{RemotePorts: []uint16{5}}}, []string{queued}},
		"IPv6":        {Filter{Events: filter.Events{IPv6: true}}, []string{queued}},
		"IPv4":        {Filter{Events: filter.Events{IPv4: true}}, []string{app, open, full}},
		"network":     {Filter{Endings: filter.Endings{Nets: nets}}, []string{open}},
		"state":       {Filter{Endings: filter.Endings{States: []events.State{events.CloseWait}}}, []string{app, queued}},
		"not a port":  {Filter{Endings: filter.Endings{NotPorts: []uint16{81}}}, []string{app, open}},
		"process":     {Filter{Endings: filter.Endings{PIDs: []uint32{10}}}, []string{app, queued, full}},
		"name":        {Filter{Endings: filter.Endings{Comms: []string{"work*"}}}, []string{open}},
		"container":   {Filter{Events: filter.Events{Containers: []string{"0f0f"}}}, []string{app, queued, full}},
		"cgroup":      {Filter{Events: filter.Events{Cgroups: []string{"/system.slice"}}}, []string{open}},
		"no cgroup":   {Filter{Events: filter.Events{Cgroups: []string{"/user.slice"}}}, nil},
		"user":        {Filter{Endings: filter.Endings{UIDs: []uint32{0}}}, []string{app, open, queued, full}},
		"other user":  {Filter{Endings: filter.Endings{UIDs: []uint32{33}}}, nil},
		"both":        {Filter{Events: filter.Events{Ports: []uint16{81}}, Endings: filter.Endings{PIDs: []uint32{11}}}, nil},
	} {
		tt.f.CgroupOf = func(pid uint32) string {
			return map[uint32]string{
				10: "/docker/" + strings.Repeat("0f", 32) + "/worker", 11: "/system.slice/cron.service",
			}[pid]
		}
		var got []string
		r := NewReport(snapshot, &tt.f, 0)
		for f := range r.Findings() {
			port := number(uint32(f.Local.Port()))
			if port == "81" {
				port += " " + f.State.String()
			}
			got = append(got, port)
		}
		for _, all := range []*[]string{&got, &tt.want} {
			for i := range *all {
				if (*all)[i] == "8,080" {
					(*all)[i] = app
				}
			}
			slices.Sort(*all)
		}
		if tt.f.Empty() != (name == "none") {
			t.Errorf("%s: empty %v", name, tt.f.Empty())
		}
		if !slices.Equal(got, tt.want) || r.Len() != len(tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// What this side has to close comes before what waits for the peer, whatever its age and number.
func TestLeaksFirst(t *testing.T) {
	open := sockets.Socket{State: events.FinWait2, Inode: 2, Local: here, Remote: there, LastHeard: time.Hour}
	leak := sockets.Socket{State: events.CloseWait, Inode: 1, Local: here, Remote: there, LastHeard: time.Second}
	found := findAll([]sockets.Socket{open, open, leak}, nil)
	if len(found) != 3 || found[0].Diagnosis != Leaked {
		t.Errorf("got %+v", found)
	}
	if groups := Groups(each(found)).Groups; len(groups) != 2 || groups[0].Diagnosis != Leaked || groups[1].Count != 2 {
		t.Errorf("got %+v", groups)
	}
}
