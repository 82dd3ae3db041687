package stuck

import (
	"net/netip"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// History is when sockets came into CLOSE_WAIT or CLOSING, from events on record. It
// goes by the inode of the socket's file, beside the addresses: what happened after
// the record, it does not know, and an inode is not given out again. So it tells
// nothing of sockets without a file, or of what their owner's calls did.
type History struct{ came map[identity]arrival }

type identity struct {
	netns         uint32
	inode         uint64
	local, remote netip.AddrPort
}

type arrival struct {
	monoNS uint64
	state  events.State
}

// Add takes an event.
func (h *History) Add(ev *events.Event) {
	if ev.Kind != events.KindPeerFIN || ev.Inode == 0 {
		return
	}
	if h.came == nil {
		h.came = map[identity]arrival{}
	}
	h.came[identity{ev.Netns, ev.Inode, unmap(ev.Local), unmap(ev.Remote)}] = arrival{ev.MonoNS, ev.After}
}

// Fill completes the sockets that are still in the state into which they were seen to
// come; now is CLOCK_MONOTONIC.
func (h *History) Fill(all []Socket, now uint64) {
	for i := range all {
		s := &all[i]
		at, known := h.came[identity{s.Netns, s.Inode, s.Local, s.Remote}]
		if known && at.state == s.State && at.monoNS < now && s.InState == 0 {
			s.InState = time.Duration(now - at.monoNS)
		}
	}
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
