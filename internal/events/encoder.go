package events

import "net/netip"

// Encoder writes endings as JSON, one after the other. Most parts of an ending repeat those of an earlier one, so it
// caches their text. Tasks and names that endings point to must not change while it is in use. Not for concurrent use.
type Encoder struct {
	second      int64  // since the epoch, of the last ending
	untilSecond []byte // its text, and the beginning of each object
	host        []byte // what names the host, if it is known
	of          *Host  // which of several hosts that is; nil: own
	own         Host   // of the stream
	verdicts    *memo[verdict]
	places      *memo[place]
	addresses   *Addresses

	local, remote lastAddr
}

// lastAddr is the last address that was written for a key, and its text with the keys: up to the first port, and up to
// the second.
type lastAddr struct {
	addr     netip.Addr
	text, ip []byte
}

// NewEncoder returns an encoder with a cache of at most about 300 KB. The zero value writes the same without a cache.
func NewEncoder() *Encoder {
	return &Encoder{verdicts: new(memo[verdict]), places: new(memo[place]), addresses: new(Addresses)}
}

// Begin says which host the endings are of, from now on.
func (c *Encoder) Begin(h Header) {
	c.own = Host{Name: h.Host, BootID: h.BootID}
	c.setHost(nil)
}

// setHost says which of several hosts the next ending is of; nil: the host of the stream.
func (c *Encoder) setHost(of *Host) {
	h := &c.own
	if of != nil {
		h = of
	}
	c.host = appendText(appendText(c.host[:0], `,"host":`, h.Name), `,"boot_id":`, h.BootID)
	c.of, c.untilSecond = of, nil
}

// verdict is the part of an ending that says which path it took, why, and which process caused it.
type verdict struct {
	path         Path
	severity     string
	cause, doubt string
	trigger      Trigger
	syscall      string
	signal       int
	actor, owner *Task
	ownerBy      OwnerBy
}

func verdictOf(e *Ending) verdict {
	return verdict{
		path: e.Path, severity: e.Attention(), cause: e.Cause, doubt: e.Doubt, trigger: e.Trigger, syscall: e.Syscall, signal: e.Signal,
		actor: e.Actor, owner: e.Owner, ownerBy: e.OwnerBy,
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

// place is the part of an ending that says where it was, and in which states.
type place struct {
	cgroupID           uint64
	netns              uint32
	before, after      State
	ipv4               bool
	fin, rst, received bool // received: a RST
	harmless           bool

	names               *ContainerNames
	cgroup, actorCgroup string
	kernelReason        string
}

func placeOf(e *Ending) place {
	return place{
		ipv4: e.isIPv4(), netns: e.Netns, cgroupID: e.CgroupID, cgroup: e.Cgroup, actorCgroup: e.ActorCgroup, names: e.ContainerNames,
		before: e.Before, after: e.After, fin: e.FIN, rst: e.RST, received: e.ReceivedRST(),
		harmless: e.Harmless, kernelReason: e.KernelReason,
	}
}

func (p *place) hash() uint {
	return uint(p.cgroupID)*31 + uint(p.netns)*17 + uint(len(p.cgroup))*5 + uint(p.before)*13 + uint(p.after)
}

// memoSize is the number of entries of a cache: the last part for each hash.
const (
	memoBits = 8
	memoSize = 1 << memoBits
)

// memo caches the text of the parts of endings.
type memo[P part] [memoSize]struct {
	part P
	text []byte
}

type part interface {
	comparable
	appendJSON([]byte) []byte
}

func (m *memo[P]) append(b []byte, hash uint, p *P) []byte {
	if m == nil {
		return (*p).appendJSON(b)
	}
	slot := &m[hash%memoSize]
	if slot.text == nil || slot.part != *p {
		slot.part, slot.text = *p, (*p).appendJSON(slot.text[:0])
	}
	return append(b, slot.text...)
}
