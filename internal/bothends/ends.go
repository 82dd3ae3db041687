package bothends

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/closetrace/closetrace/internal/events"
)

// sameEvent is how far apart in time two recordings of one host have the same event: each closetrace reads the clock
// for itself.
const sameEvent = 1e6 // nanoseconds

// place is where an ending was.
type place struct {
	clock         int32
	netns         uint32
	local, remote netip.AddrPort
}

func (x *ending) place() place { return place{x.clock, x.netns, x.local, x.remote} }

// inOrder returns the endings by time, without those of more than one recording of a host.
func (j *Join) inOrder() []int32 {
	all := make([]int32, 0, len(j.endings))
	for i := range j.endings {
		if !j.endings[i].isDuplicate {
			all = append(all, int32(i))
		}
	}
	slices.SortStableFunc(all, func(a, b int32) int { return cmp.Compare(j.endings[a].at, j.endings[b].at) })
	return all
}

// dropDuplicates finds the endings that two recordings of one host have, and returns how many there are.
func (j *Join) dropDuplicates() (n int) {
	if len(j.clocks) == len(j.sources) {
		return 0
	}
	kept := map[place][]int32{}      // the endings of the last millisecond
	by := map[int32]map[int32]bool{} // the recordings that have an ending as well
	for _, i := range j.inOrder() {
		x := &j.endings[i]
		recent := slices.DeleteFunc(kept[x.place()], func(k int32) bool { return x.at-j.endings[k].at > sameEvent })
		same := slices.IndexFunc(recent, func(k int32) bool {
			y := &j.endings[k]
			return y.source != x.source && y.path.Family() == x.path.Family() && y.fin == x.fin && y.rst == x.rst &&
				(y.id == x.id || y.id == 0 || x.id == 0) && !by[k][x.source]
		})
		if same < 0 {
			kept[x.place()] = append(recent, i)
			continue
		}
		k := recent[same]
		if by[k] == nil {
			by[k] = map[int32]bool{}
		}
		by[k][x.source], kept[x.place()] = true, recent
		x.isDuplicate = true
		n++
	}
	return n
}

// end is one end of a connection: its endings by time.
type end struct {
	place
	id        uint64
	endings   []int32
	other     *end // on another host
	isLocal   bool // its other end is on the same host
	ambiguous bool
}

// ends returns the ends of all connections. Endings without the id of their connection are of the one of the same place
// before them, unless they have other sequence numbers, or a state that that had left.
func (j *Join) ends() (all []*end) {
	byID, last := map[idPlace]*end{}, map[place]*end{}
	for _, i := range j.inOrder() {
		x := &j.endings[i]
		if !x.isConnected() || x.path == events.ReplyNetfilter { // which no end does
			continue
		}
		at := x.place()
		e := byID[idPlace{x.id, at}]
		if x.id == 0 {
			if e = last[at]; e != nil && j.isOver(e, x) {
				e = nil
			}
		}
		if e == nil {
			e = &end{place: at, id: x.id}
			all = append(all, e)
			if x.id != 0 {
				byID[idPlace{x.id, at}] = e
			}
		}
		last[at] = e
		e.endings = append(e.endings, i)
		x.end = e
	}
	return all
}

// idPlace is the connection of an end.
type idPlace struct {
	id uint64
	place
}

// isOver reports whether an ending is of a later connection than an end.
func (j *Join) isOver(e *end, x *ending) bool {
	sent, received := x.numbers()
	sentBefore, receivedBefore := j.last(e).numbers()
	if !alike(sent, sentBefore) || !alike(received, receivedBefore) {
		return true
	}
	reached := events.StageUnknown
	for _, i := range e.endings {
		reached = max(reached, j.endings[i].before.Stage(), j.endings[i].after.Stage())
	}
	before := x.before.Stage()
	return before != events.StageUnknown && before < reached
}

// numbers returns the next sequence numbers to send and to receive, 0 if unknown. Without a socket, they are those of
// the segment that was answered.
func (x *ending) numbers() (sent, received uint32) {
	if x.sndNxt == 0 && x.rcvNxt == 0 && x.isReply() {
		return x.segmentAck, x.segmentSeq + x.segmentBytes
	}
	return x.sndNxt, x.rcvNxt
}

// last returns the last ending of an end.
func (j *Join) last(e *end) *ending { return &j.endings[e.endings[len(e.endings)-1]] }

// first returns the time of the first ending of an end by the first clock.
func (j *Join) first(e *end) int64 { return j.shown(&j.endings[e.endings[0]]) }

// finOf returns the ending of an end that sent its FIN, nil if none did.
func (j *Join) finOf(e *end) *ending {
	for _, i := range e.endings {
		if x := &j.endings[i]; x.fin {
			return x
		}
	}
	return nil
}

// resetsOf returns the endings of an end that sent a RST.
func (j *Join) resetsOf(e *end) (all []int32) {
	for _, i := range e.endings {
		if j.endings[i].rst {
			all = append(all, i)
		}
	}
	return all
}
