package sockets

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// List is a list of sockets that takes about 100 bytes of each, without pointers: a host may have hundreds of
// thousands.
type List struct {
	chunks [][]packed
	length int
}

// chunk is how many sockets are allocated at once. A slice that grows would be copied, and take twice as much.
const chunk = 4096

// packed is a Socket. Durations of timers are rounded down to what sock_diag has: milliseconds, and microseconds of the
// retransmission timeout.
type packed struct {
	local, remote                    end
	netns, uid                       uint32
	inode                            uint64
	receiveQueue, sendQueue, notSent uint32
	lastHeard, inState               time.Duration
	timeLeftMS, rtoUS                uint32
	state                            events.State
	backoff, retries                 uint8
	mini, windowClosed               bool
}

// end is an address and a port.
type end struct {
	addr [16]byte
	port uint16
	bits uint8 // 32 or 128; 0: no address
}

func packEnd(a netip.AddrPort) end {
	e := end{port: a.Port(), bits: uint8(a.Addr().BitLen())}
	if e.bits == 32 {
		four := a.Addr().As4()
		copy(e.addr[:], four[:])
	} else if e.bits == 128 {
		e.addr = a.Addr().As16()
	}
	return e
}

func (e end) unpack() netip.AddrPort {
	switch e.bits {
	case 32:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(e.addr[:4])), e.port)
	case 128:
		return netip.AddrPortFrom(netip.AddrFrom16(e.addr), e.port)
	}
	return netip.AddrPortFrom(netip.Addr{}, e.port)
}

// compare compares like [netip.AddrPort.Compare].
func (e *end) compare(f *end) int {
	return cmp.Or(cmp.Compare(e.bits, f.bits), slices.Compare(e.addr[:], f.addr[:]), cmp.Compare(e.port, f.port))
}

// NewList returns a list of sockets.
func NewList(all ...Socket) *List {
	l := &List{}
	for i := range all {
		l.Add(&all[i])
	}
	return l
}

// Add adds a socket to the end.
func (l *List) Add(s *Socket) {
	if l.length%chunk == 0 {
		l.chunks = append(l.chunks[:l.length/chunk], make([]packed, 0, chunk))
	}
	last := &l.chunks[l.length/chunk]
	*last = append(*last, packed{
		local: packEnd(s.Local), remote: packEnd(s.Remote), netns: s.Netns, uid: s.UID, inode: s.Inode,
		receiveQueue: s.ReceiveQueue, sendQueue: s.SendQueue, notSent: s.NotSent,
		lastHeard: s.LastHeard, inState: s.InState, timeLeftMS: uint32(s.TimeLeft.Milliseconds()),
		rtoUS: uint32(s.RTO.Microseconds()), state: s.State, backoff: s.Backoff, retries: s.Retries, mini: s.Mini,
		windowClosed: s.WindowClosed,
	})
	l.length++
}

// Len returns the number of sockets.
func (l *List) Len() int { return l.length }

func (l *List) at(i int) *packed { return &l.chunks[i/chunk][i%chunk] }

// At returns a socket by its position.
func (l *List) At(i int) Socket {
	p := l.at(i)
	return Socket{
		Local: p.local.unpack(), Remote: p.remote.unpack(), Netns: p.netns, UID: p.uid, Inode: p.inode,
		ReceiveQueue: p.receiveQueue, SendQueue: p.sendQueue, NotSent: p.notSent,
		LastHeard: p.lastHeard, InState: p.inState, TimeLeft: time.Duration(p.timeLeftMS) * time.Millisecond,
		RTO: time.Duration(p.rtoUS) * time.Microsecond, State: p.state, Backoff: p.backoff, Retries: p.retries,
		Mini: p.mini, WindowClosed: p.windowClosed,
	}
}

// All returns the sockets and their positions.
func (l *List) All() iter.Seq2[int, Socket] {
	return func(yield func(int, Socket) bool) {
		for i := range l.length {
			if !yield(i, l.At(i)) {
				return
			}
		}
	}
}

// CompareEnds compares two sockets by their local and remote addresses, and their network namespaces.
func (l *List) CompareEnds(i, j int) int {
	a, b := l.at(i), l.at(j)
	return cmp.Or(a.local.compare(&b.local), a.remote.compare(&b.remote), cmp.Compare(a.netns, b.netns))
}

// cut removes all but the first n sockets.
func (l *List) cut(n int) {
	l.chunks = l.chunks[:(n+chunk-1)/chunk]
	if n%chunk != 0 {
		l.chunks[n/chunk] = l.chunks[n/chunk][:n%chunk]
	}
	l.length = n
}

// AddOnce is Add for a source that may show a socket twice. seen has what it showed; it takes 8 bytes of each.
func (l *List) AddOnce(s *Socket, seen *Seen) {
	if seen.add(s) {
		l.Add(s)
	}
}

// Seen is a set of sockets, by a hash of their addresses and inodes.
type Seen struct {
	seed   maphash.Seed
	hashes map[uint64]struct{}
}

// NewSeen returns an empty set.
func NewSeen() *Seen { return &Seen{maphash.MakeSeed(), map[uint64]struct{}{}} }

// add reports whether a socket is new.
func (s *Seen) add(socket *Socket) bool {
	local, remote := packEnd(socket.Local), packEnd(socket.Remote)
	var h maphash.Hash
	h.SetSeed(s.seed)
	h.Write(local.addr[:])
	h.Write(remote.addr[:])
	var rest [20]byte
	binary.NativeEndian.PutUint16(rest[0:], local.port)
	binary.NativeEndian.PutUint16(rest[2:], remote.port)
	binary.NativeEndian.PutUint64(rest[4:], socket.Inode)
	binary.NativeEndian.PutUint32(rest[12:], socket.Netns)
	h.Write(rest[:])
	sum := h.Sum64()
	if _, known := s.hashes[sum]; known {
		return false
	}
	s.hashes[sum] = struct{}{}
	return true
}
