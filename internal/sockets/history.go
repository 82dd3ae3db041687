package sockets

import (
	"errors"
	"io"
	"net/netip"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// History holds when sockets entered CLOSE_WAIT or CLOSING, from recorded events. It identifies a socket by the inode
// of its file in addition to the addresses, because inodes are not reused: so it cannot be misled by what happened
// after the recording. It knows nothing of sockets without a file, and of what calls of this side did.
type History struct{ entered map[identity]transition }

type identity struct {
	netns         uint32
	inode         uint64
	local, remote netip.AddrPort
}

type transition struct {
	monoNS uint64
	state  events.State
}

// Add remembers the event if it is a FIN that the peer sent.
func (h *History) Add(ev *events.Event) {
	if ev.Kind != events.KindPeerFIN || ev.Inode == 0 {
		return
	}
	if h.entered == nil {
		h.entered = map[identity]transition{}
	}
	h.entered[identity{ev.Netns, ev.Inode, unmap(ev.Local), unmap(ev.Remote)}] = transition{ev.MonoNS, ev.After}
}

// Resolve sets InState of the sockets that are still in the state that they were seen to enter. now is CLOCK_MONOTONIC
// in nanoseconds. h may be nil.
func (h *History) Resolve(all *List, now uint64) {
	if h == nil {
		return
	}
	for i, s := range all.All() {
		at, known := h.entered[identity{s.Netns, s.Inode, s.Local, s.Remote}]
		if known && at.state == s.State && at.monoNS < now && s.InState == 0 {
			all.at(i).inState = time.Duration(now - at.monoNS)
		}
	}
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// ReadFrom adds events until read fails, and returns that error. At the end of the recording it returns nil.
func (h *History) ReadFrom(read func(*events.Event) error) error {
	for ev := new(events.Event); ; {
		switch err := read(ev); {
		case err == nil:
			h.Add(ev)
		case errors.Is(err, io.EOF):
			return nil
		default:
			return err
		}
	}
}

// clockError is how far the starts of CLOCK_MONOTONIC in two readings of the same boot may be apart by the clock of the
// day. Setting that clock exceeds it, slewing does not.
const clockError = 10 * time.Millisecond

// SameBoot reports whether a recording was made on a machine with this kernel release since its boot, and its clock was
// not set since. wallOffsetNS is as in the header.
func SameBoot(header *events.Header, release string, wallOffsetNS int64) bool {
	return header.Kernel == release && time.Duration(header.WallOffsetNS-wallOffsetNS).Abs() <= clockError
}
