package events

import "net/netip"

// Encoder writes endings as JSON, one after the other. Most of a line is like that of an ending before: what repeats is
// kept as it was written, and copied. Not for concurrent use.
type Encoder struct {
	second      int64  // since the epoch, of the last ending
	untilSecond []byte // as written
	verdicts    written[verdict]
	places      written[place]
	addresses   written[address]
}

// NewEncoder makes one that remembers: at most about 300 KB. The zero value writes the same, and remembers nothing.
func NewEncoder() *Encoder {
	const most = 256
	return &Encoder{verdicts: make(written[verdict], most), places: make(written[place], most), addresses: make(written[address], most)}
}

// verdict is what of an ending says which path it took, why, and whose doing it was.
type verdict struct {
	path               Path
	cause, doubt       string
	trigger            Trigger
	syscall            string
	signal             int
	hasActor, hasOwner bool
	actor, owner       Task
}

func verdictOf(e *Ending) verdict {
	v := verdict{path: e.Path, cause: e.Cause, doubt: e.Doubt, trigger: e.Trigger, syscall: e.Syscall, signal: e.Signal}
	if e.Actor != nil {
		v.hasActor, v.actor = true, *e.Actor
	}
	if e.Owner != nil {
		v.hasOwner, v.owner = true, *e.Owner
	}
	return v
}

func (v *verdict) hash() uint {
	return uint(v.actor.TID)*31 + uint(v.owner.PID)*17 + uint(len(v.cause))*5 + uint(len(v.path))
}

// place is what of an ending says where it was, and in which states.
type place struct {
	family              string
	netns               uint32
	cgroupID            uint64
	cgroup, actorCgroup string
	names               *ContainerNames // which nobody changes
	before, after       State
	fin, rst, harmless  bool
	kernelReason        string
}

func placeOf(e *Ending) place {
	return place{
		family: e.Family(), netns: e.Netns, cgroupID: e.CgroupID, cgroup: e.Cgroup, actorCgroup: e.ActorCgroup, names: e.ContainerNames,
		before: e.Before, after: e.After, fin: e.FIN, rst: e.RST, harmless: e.Harmless, kernelReason: e.KernelReason,
	}
}

func (p *place) hash() uint {
	return uint(p.cgroupID)*31 + uint(p.netns)*17 + uint(len(p.cgroup))*5 + uint(p.before)*13 + uint(p.after)
}

// address is without its port.
type address struct{ netip.Addr }

func (a address) appendJSON(b []byte) []byte { return a.AppendTo(b) }

func (a address) hash() uint {
	b := a.As16()
	return uint(b[15])*31 + uint(b[14])*17 + uint(b[13])*5 + uint(b[12])
}

// written keeps the last part of its kind under each hash.
type written[P part] []struct {
	part P
	text []byte
}

type part interface {
	comparable
	appendJSON([]byte) []byte
}

func (w written[P]) append(b []byte, hash uint, p *P) []byte {
	if len(w) == 0 {
		return (*p).appendJSON(b)
	}
	at := &w[hash%uint(len(w))]
	if at.text == nil || at.part != *p {
		at.part, at.text = *p, (*p).appendJSON(at.text[:0])
	}
	return append(b, at.text...)
}
