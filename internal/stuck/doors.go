package stuck

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/closetrace/closetrace/internal/events"
)

// doors are the listeners.
type doors struct {
	at      map[door][]*Socket
	holders map[uint64][]Holder
}

type door struct {
	netns uint32
	port  uint16
}

func newDoors(all []Socket, holders map[uint64][]Holder) doors {
	d := doors{map[door][]*Socket{}, holders}
	for i := range all {
		if s := &all[i]; s.State == events.Listen {
			key := door{s.Netns, s.Local.Port()}
			d.at[key] = append(d.at[key], s)
		}
	}
	return d
}

// service is what the connection is about: the port here if somebody listens at
// it, or else the other end.
func (d doors) service(s *Socket) string {
	if len(d.at[door{s.Netns, s.Local.Port()}]) > 0 {
		return "here:" + strconv.Itoa(int(s.Local.Port()))
	}
	return s.Remote.String()
}

// listener is the one in whose queue a connection waits: that of its address, or
// else one of any address. Among several, it is one whose queue is not empty.
func (d doors) listener(s *Socket) *Listener {
	var exact, any []*Socket
	for _, l := range d.at[door{s.Netns, s.Local.Port()}] {
		switch {
		case l.ReceiveQueue == 0:
		case l.Local.Addr() == s.Local.Addr():
			exact = append(exact, l)
		case l.Local.Addr().IsUnspecified() && serves(l.Local.Addr(), s.Local.Addr()):
			any = append(any, l)
		}
	}
	if len(exact) == 0 {
		exact = any
	}
	if len(exact) == 0 {
		return nil
	}
	l := slices.MinFunc(exact, func(a, b *Socket) int { return int(a.Inode) - int(b.Inode) })
	return &Listener{l.Local, l.ReceiveQueue, l.SendQueue, d.holders[l.Inode], len(exact) - 1}
}

// serves: a listener at :: takes IPv4, too, unless it was told not to.
func serves(any, addr netip.Addr) bool { return any.Is6() || addr.Is4() }
