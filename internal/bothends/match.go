package bothends

import (
	"net/netip"
	"slices"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

const (
	// measured is how far apart the endings of a pair may be, by clocks whose offset is measured, if its connection has no
	// number, and unmeasured by wall clocks.
	measured   = int64(time.Second)
	unmeasured = int64(3 * time.Second)
	// maxPerAddress is how many connections may have had the same addresses for one of them to be found by these.
	maxPerAddress = 256
	// inFlight is more than an end has on its way when it is reset. Of two connections, one in 2,000 is nearer.
	inFlight = 1 << 20
	// beside is as near as the numbers of both directions are at the two ends of a connection, whatever their clocks say.
	beside = 1 << 16
)

// matcher finds the pairs of ends.
type matcher struct {
	*Result
	j     *Join
	ends  []*end
	pairs []pair
}

func (m *matcher) join(a, b *end) {
	a.other, b.other = b, a
	m.pairs = append(m.pairs, pair{a, b})
	m.Joined++
}

// byID joins the ends that have the id of a connection, if there are two of them on two hosts.
func (m *matcher) byID() {
	byID := map[uint64][]*end{}
	var ids []uint64
	for _, e := range m.ends {
		if e.id == 0 {
			continue
		}
		if byID[e.id] == nil {
			ids = append(ids, e.id)
		}
		byID[e.id] = append(byID[e.id], e)
	}
	for _, id := range ids {
		ends := byID[id]
		switch {
		case len(ends) == 1:
		case len(ends) == 2 && ends[0].clock == ends[1].clock:
			ends[0].isLocal, ends[1].isLocal = true, true
		case len(ends) == 2 && !(ends[0].local == ends[1].local && ends[0].remote == ends[1].remote):
			m.join(ends[0], ends[1])
		default:
			m.isAmbiguous(ends...)
		}
	}
}

// isAmbiguous counts a connection that has several candidates, once.
func (m *matcher) isAmbiguous(ends ...*end) {
	if !slices.ContainsFunc(ends, func(e *end) bool { return e.ambiguous }) {
		m.Ambiguous++
	}
	for _, e := range ends {
		e.ambiguous = true
	}
}

// near reports whether two endings are as near in time as those of one RST.
func (m *matcher) near(x, y *ending) bool {
	return max(m.j.shown(x)-m.j.shown(y), m.j.shown(y)-m.j.shown(x)) <= m.window(x.clock, y.clock)
}

func (m *matcher) window(a, b int32) int64 {
	if m.j.clocks[a].known && m.j.clocks[b].known {
		return measured + m.j.clocks[a].found.spread + m.j.clocks[b].found.spread
	}
	return unmeasured
}

// resetsByNumber finds who sent the RSTs received that no end of a pair sent: a RST in reply has the number of the
// segment that it answers.
func (m *matcher) resetsByNumber() {
	replies := map[uint32][]int32{} // by the number that the receiver has
	for i := range m.j.endings {
		if y := &m.j.endings[i]; y.isReply() && !y.isDuplicate {
			replies[y.wireNumber()] = append(replies[y.wireNumber()], int32(i))
		}
	}
	senders := map[int32][]int32{} // by reply: what may have received it
	for i := range m.j.endings {
		x := &m.j.endings[i]
		if !x.received() || x.hasPeer || x.isDuplicate || x.end == nil || m.isReset(x.end.other) {
			continue
		}
		number := x.expected()
		if number == 0 {
			continue
		}
		fit := slices.DeleteFunc(slices.Clone(replies[number]), func(k int32) bool { return !m.mayReset(&m.j.endings[k], x) })
		switch {
		case slices.ContainsFunc(fit, func(k int32) bool { return m.j.endings[k].place() != m.j.endings[fit[0]].place() }):
			m.isAmbiguous(x.end)
		case len(fit) > 0:
			senders[fit[0]] = append(senders[fit[0]], int32(i))
		}
	}
	for k := range m.j.endings { // in their order
		receivers := senders[int32(k)]
		if len(receivers) == 0 {
			continue
		}
		if len(receivers) > 1 {
			m.isAmbiguous(m.j.endings[receivers[0]].end)
			continue
		}
		m.linkReset(int32(k), receivers[0])
	}
}

// isReset reports whether an end sent a RST.
func (m *matcher) isReset(e *end) bool { return e != nil && len(m.j.resetsOf(e)) > 0 }

// linkReset joins a RST in reply and the ending that received it, and their ends, if neither has another one. Netfilter
// sends a RST in the name of an end.
func (m *matcher) linkReset(sent, received int32) {
	y, x := &m.j.endings[sent], &m.j.endings[received]
	x.cause, y.effect = sent, received
	if y.path != events.ReplyNetfilter && y.end != nil && y.end.isFree() && x.end.isFree() {
		m.join(y.end, x.end)
		return
	}
	m.Resets++
}

// isFree reports whether the other end of an end was not found.
func (e *end) isFree() bool { return e.other == nil && !e.isLocal && !e.ambiguous }

// wireNumber returns the sequence number of a RST in reply; of one without, which answers a segment without an ACK, the
// acknowledgment number.
func (x *ending) wireNumber() uint32 {
	if x.segmentAck != 0 {
		return x.segmentAck
	}
	return x.segmentSeq + x.segmentBytes + 1
}

// expected returns the number of the RST that an end received, as [ending.wireNumber] has it; 0: unknown. In tracepoint
// mode the RST is not seen, but the end accepts only the next number.
func (x *ending) expected() uint32 {
	switch {
	case x.before == events.SynSent && x.segmentAck != 0:
		return x.segmentAck
	case x.before == events.SynSent:
		return x.sndNxt
	case x.segmentSeq != 0:
		return x.segmentSeq
	}
	return x.rcvNxt
}

// mayReset reports whether a RST in reply may be the one that an ending received, apart from its number.
func (m *matcher) mayReset(y, x *ending) bool {
	switch {
	case y.clock == x.clock, !m.near(x, y), (y.segmentAck == 0) != (x.before == events.SynSent):
		return false
	case x.before == events.SynSent: // 32 bits, and an address that was not translated
		return x.remote == y.local || x.local == y.remote
	}
	return x.sndNxt-(y.segmentSeq+y.segmentBytes) <= inFlight
}

// byAddress joins ends of which one has no id, if their addresses are the same, and no other end has them at that time.
func (m *matcher) byAddress() {
	type addresses [2]netip.AddrPort
	byKey := map[addresses][]*end{}
	var keys []addresses
	for _, e := range m.ends {
		if !e.isFree() || e.local.Addr().IsLoopback() {
			continue
		}
		key := addresses{e.local, e.remote}
		if e.remote.Compare(e.local) < 0 {
			key = addresses{e.remote, e.local}
		}
		if byKey[key] == nil {
			keys = append(keys, key)
		}
		byKey[key] = append(byKey[key], e)
	}
	for _, key := range keys {
		if all := byKey[key]; len(all) > 1 && len(all) <= maxPerAddress {
			m.ofAddress(all)
		}
	}
}

// ofAddress joins ends of the same addresses.
func (m *matcher) ofAddress(all []*end) {
	fit := map[*end][]*end{}
	for i, a := range all {
		for _, b := range all[i+1:] {
			if m.mayJoin(a, b) {
				fit[a], fit[b] = append(fit[a], b), append(fit[b], a)
			}
		}
	}
	for _, a := range all {
		switch {
		case len(fit[a]) == 0 || a.other != nil || a.ambiguous:
		case len(fit[a]) == 1 && len(fit[fit[a][0]]) == 1:
			m.join(a, fit[a][0])
			m.ByAddress++
		default:
			m.isAmbiguous(append(slices.Clone(fit[a]), a)...)
		}
	}
}

// mayJoin reports whether two ends of the same addresses may be those of one connection.
func (m *matcher) mayJoin(a, b *end) bool {
	if a.clock == b.clock || a.local == b.local || a.id != 0 && b.id != 0 {
		return false
	}
	x, y := m.j.last(a), m.j.last(b)
	sent, received := x.numbers()
	sentThere, receivedThere := y.numbers()
	if !alike(sent, receivedThere) || !alike(received, sentThere) {
		return false
	}
	if min(sent, received, sentThere, receivedThere) > 0 {
		return apart(sent, receivedThere) <= beside && apart(received, sentThere) <= beside
	}
	window := m.window(a.clock, b.clock)
	return m.j.first(a)-m.j.shown(y) <= window && m.j.first(b)-m.j.shown(x) <= window
}

// alike reports whether what one end sent may be what the other received.
func alike(a, b uint32) bool { return a == 0 || b == 0 || apart(a, b) <= inFlight }

// apart returns the distance of two sequence numbers.
func apart(a, b uint32) uint32 { return min(a-b, b-a) }

// count counts what was not joined.
func (m *matcher) count() {
	for _, e := range m.ends {
		if e.id != 0 && e.isFree() {
			m.OneEnd++
		}
	}
}
