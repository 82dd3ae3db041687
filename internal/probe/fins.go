//go:build linux && (amd64 || arm64)

package probe

import (
	"math/bits"

	"github.com/cilium/ebpf"

	"github.com/closetrace/closetrace/internal/events"
)

// openFINs are the FINs received that this side has not answered, as the kernel side keeps them (bpf/notes.h): each in
// the place that follows from its ports or, if another socket has that place, by the address of its socket.
type openFINs struct{ places, more *ebpf.Map }

// FIN_BITS and FIN_HASH of bpf/maps.h.
const (
	finBits   = 14
	finPlaces = 1 << finBits
	finHash   = 2654435761
)

// finPlace returns the place of a connection.
func finPlace(local, remote uint16) uint32 {
	return portPair(local, remote) * finHash >> (32 - finBits)
}

// portPair returns ports as the kernel has them (skc_portpair): the remote one in network order in the first half of a
// word, the local one in host order in the second.
func portPair(local, remote uint16) uint32 {
	return uint32(bits.ReverseBytes16(remote)) | uint32(local)<<16
}

// portsOf is the inverse.
func portsOf(pair uint32) (local, remote uint16) {
	return uint16(pair >> 16), bits.ReverseBytes16(uint16(pair))
}

// take returns when the FIN was received that an event answers, and forgets it. It is false if none is kept, or one of
// a later socket at this address.
func (o openFINs) take(ev *events.Event) (received uint64, ok bool) {
	place := finPlace(ev.Local.Port(), ev.Remote.Port())
	var fin bpfOpenFin
	if o.places.Lookup(place, &fin) == nil && fin.Sock == ev.Sock {
		if fin.Received > ev.MonoNS {
			return 0, false
		}
		return fin.Received, o.places.Put(place, bpfOpenFin{}) == nil
	}
	if o.more.Lookup(ev.Sock, &received) != nil || received > ev.MonoNS {
		return 0, false
	}
	return received, o.more.Delete(ev.Sock) == nil
}

// count returns how many are kept.
func (o openFINs) count() (n uint64) {
	// All at once (5.6): one by one is a system call for each place. It ends in ErrKeyNotExist.
	places, fins := make([]uint32, finPlaces), make([]bpfOpenFin, finPlaces)
	read, _ := o.places.BatchLookup(new(ebpf.MapBatchCursor), places, fins, nil)
	for _, fin := range fins[:read] {
		if fin.Sock != 0 {
			n++
		}
	}
	var sock, received uint64
	for all := o.more.Iterate(); all.Next(&sock, &received); {
		n++
	}
	return n
}
