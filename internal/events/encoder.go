package events

import (
	"encoding/binary"
	"net/netip"
)

// Encoder writes endings as JSON, one after the other. Most of a line is like that of an ending before: what repeats is
// kept as it was written, and copied. Tasks and names that endings point to must not change while it is in use. Not for
// concurrent use.
type Encoder struct {
	second      int64  // since the epoch, of the last ending
	untilSecond []byte // as written
	verdicts    *written[verdict]
	places      *written[place]
	addresses   *[kept]ipv4
}

// NewEncoder makes one that remembers: at most about 300 KB. The zero value writes the same, and remembers nothing.
func NewEncoder() *Encoder {
	return &Encoder{verdicts: new(written[verdict]), places: new(written[place]), addresses: new([kept]ipv4)}
}

// verdict is what of an ending says which path it took, why, and whose doing it was.
type verdict struct {
	path         Path
	cause, doubt string
	trigger      Trigger
	syscall      string
	signal       int
	actor, owner *Task
}

func verdictOf(e *Ending) verdict {
	return verdict{
		path: e.Path, cause: e.Cause, doubt: e.Doubt, trigger: e.Trigger, syscall: e.Syscall, signal: e.Signal,
		actor: e.Actor, owner: e.Owner,
	}
}

func (v *verdict) hash() uint {
	h := uint(len(v.cause))*5 + uint(len(v.path))
	if v.actor != nil {
		h += uint(v.actor.TID) * 31
	}
	if v.owner != nil {
		h += uint(v.owner.PID) * 17
	}
	return h
}

// place is what of an ending says where it was, and in which states.
type place struct {
	cgroupID           uint64
	netns              uint32
	before, after      State
	ipv4               bool
	fin, rst, harmless bool

	names               *ContainerNames
	cgroup, actorCgroup string
	kernelReason        string
}

func placeOf(e *Ending) place {
	return place{
		ipv4: e.isIPv4(), netns: e.Netns, cgroupID: e.CgroupID, cgroup: e.Cgroup, actorCgroup: e.ActorCgroup, names: e.ContainerNames,
		before: e.Before, after: e.After, fin: e.FIN, rst: e.RST, harmless: e.Harmless, kernelReason: e.KernelReason,
	}
}

func (p *place) hash() uint {
	return uint(p.cgroupID)*31 + uint(p.netns)*17 + uint(len(p.cgroup))*5 + uint(p.before)*13 + uint(p.after)
}

// kept is how many parts of a kind are: under each hash the last.
const kept = 256

// written keeps parts of a kind with what was written of them.
type written[P part] [kept]struct {
	part P
	text []byte
}

type part interface {
	comparable
	appendJSON([]byte) []byte
}

func (w *written[P]) append(b []byte, hash uint, p *P) []byte {
	if w == nil {
		return (*p).appendJSON(b)
	}
	at := &w[hash%kept]
	if at.text == nil || at.part != *p {
		at.part, at.text = *p, (*p).appendJSON(at.text[:0])
	}
	return append(b, at.text...)
}

// ipv4 is such an address as it was written.
type ipv4 struct {
	address [4]byte
	text    [len("255.255.255.255")]byte
	length  uint8 // 0: none
}

// appendIPv4 writes an address without its port.
func (c *Encoder) appendIPv4(b []byte, a netip.Addr) []byte {
	if c.addresses == nil {
		return a.AppendTo(b)
	}
	address := a.As4()
	at := &c.addresses[uint(binary.BigEndian.Uint32(address[:]))*0x9e3779b1>>8%kept]
	if at.length == 0 || at.address != address {
		at.address, at.length = address, uint8(len(a.AppendTo(at.text[:0])))
	}
	return append(b, at.text[:at.length]...)
}
