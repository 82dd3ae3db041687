package events

// Encoder writes endings as JSON, one after the other. Most of a line is like that of an ending before: what repeats is
// kept as it was written, and copied. Tasks and names that endings point to must not change while it is in use. Not for
// concurrent use.
type Encoder struct {
	second      int64  // since the epoch, of the last ending
	untilSecond []byte // as written
	verdicts    *written[verdict]
	places      *written[place]
	addresses   *Addresses
}

// NewEncoder makes one that remembers: at most about 300 KB. The zero value writes the same, and remembers nothing.
func NewEncoder() *Encoder {
	return &Encoder{verdicts: new(written[verdict]), places: new(written[place]), addresses: new(Addresses)}
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
const (
	keptBits = 8
	kept     = 1 << keptBits
)

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
