// Package bothends joins the recordings of several hosts: it finds the endings of the two ends of a connection, and by
// how much the clocks of the hosts differ.
//
// It is pure: endings go in by [Join.Add], in the order of each recording, and [Join.Conclude] returns what was found.
// [Result.Complete] adds it to the same endings when the recordings are read again.
//
// The two ends of a connection have one [events.Ending.ConnectionID], whatever happens to addresses on the way. A RST
// in reply to a segment without a socket has none, and is found by its sequence number. What has no number is found by
// its addresses. If more than one end fits, none is joined.
package bothends

import (
	"cmp"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// maxEndings bounds the endings that are compared, some 300 MB.
const maxEndings = 1 << 20

// Recording is one of the recordings.
type Recording struct {
	Name   string // of its file
	Header events.Header
}

// Join collects the endings of recordings.
type Join struct {
	sources []*source
	clocks  []*clock
	endings []ending
	limit   int
	beyond  int
}

// source is a recording while it is compared.
type source struct {
	clock *clock
	host  *events.Host
	wall  int64   // the offset of its header
	kept  []int32 // its endings in Join.endings, by their number
}

// clock is a CLOCK_MONOTONIC: that of one boot of one host.
type clock struct {
	index  int
	host   *events.Host
	wall   int64 // added to a time gives the one by the host's wall clock
	offset int64 // added to that gives the time by the first clock
	found  estimate
	known  bool // the offset is measured, or the clock is the first one
}

// ending is what is compared of an [events.Ending].
type ending struct {
	source, number int32
	clock          int32
	at             int64 // nanoseconds, by the wall clock of the host

	path                       events.Path
	trigger                    events.Trigger
	signal                     int
	actor, owner               *events.Task
	local, remote              netip.AddrPort
	id                         uint64
	netns                      uint32
	before, after              events.State
	fin, rst, hasPeer, linger0 bool
	finWaits                   bool // the FIN is behind data that was not sent yet
	unread, segmentBytes       uint32
	sndNxt, rcvNxt             uint32
	segmentSeq, segmentAck     uint32
	srtt                       int64
	finReceivedAt              int64 // when the FIN of the other end was received; 0: unknown
	hook                       string

	// What was found.
	isDuplicate bool
	end         *end
	cause       int32 // the ending on the other host that caused this one; -1: none
	effect      int32 // the ending on the other host that received the RST of this one; -1: none
}

// New returns a join of recordings, the first of which has the clock that all times are shown in.
func New(recordings []Recording) *Join {
	j := &Join{limit: maxEndings}
	byKey := map[string]*clock{}
	for i := range recordings {
		r := &recordings[i]
		h := &r.Header
		c := byKey[clockKey(h)]
		if c == nil {
			c = &clock{index: len(j.clocks), wall: h.WallOffsetNS, host: &events.Host{Name: h.Host, BootID: h.BootID}}
			c.host.Label = j.label(cmp.Or(h.Host, filepath.Base(r.Name)))
			byKey[clockKey(h)] = c
			j.clocks = append(j.clocks, c)
		}
		j.sources = append(j.sources, &source{clock: c, host: c.host, wall: h.WallOffsetNS})
	}
	return j
}

// clockKey identifies a clock. Old recordings do not name their boot.
func clockKey(h *events.Header) string {
	return cmp.Or(h.BootID, h.Host+" "+h.Kernel+" "+h.Attach+" "+strconv.FormatInt(h.WallOffsetNS, 10))
}

// label returns the name of a host that no other clock has: the hosts may have one name, or one was booted in between.
func (j *Join) label(name string) string {
	label := name
	for n := 2; slices.ContainsFunc(j.clocks, func(c *clock) bool { return c.host.Label == label }); n++ {
		label = name + "/" + strconv.Itoa(n)
	}
	return label
}

// Hosts returns the hosts of the recordings, in their order. Those of one boot have the same one.
func (j *Join) Hosts() []*events.Host {
	var hosts []*events.Host
	for _, s := range j.sources {
		hosts = append(hosts, s.host)
	}
	return hosts
}

// Add takes the next ending of a recording.
func (j *Join) Add(recording int, e *events.Ending) {
	s := j.sources[recording]
	if len(j.endings) >= j.limit {
		j.beyond++
		return
	}
	v := &e.Evidence
	at := int64(e.MonoNS) + s.clock.wall
	x := ending{
		source: int32(recording), number: int32(len(s.kept)), clock: int32(s.clock.index), at: at,
		path: e.Path, trigger: e.Trigger, signal: e.Signal, actor: e.Actor, owner: e.Owner, local: e.Local, remote: e.Remote,
		id: e.ConnectionID, netns: e.Netns, before: e.Before, after: e.After,
		fin: e.FIN, finWaits: v.FINUnsent || v.UnsentBytes > 0, rst: e.RST, hasPeer: e.Peer != nil,
		linger0: v.LingerOn && v.Linger == 0, unread: v.UnreadBytes, segmentBytes: v.SegmentBytes,
		sndNxt: v.SndNxt, rcvNxt: v.RcvNxt, segmentSeq: v.SegmentSeq, segmentAck: v.SegmentAck, srtt: int64(v.SRTT),
		hook: v.NetfilterHook, cause: -1, effect: -1,
	}
	switch {
	case e.Path == events.RecvFIN:
		x.finReceivedAt = at
	case v.PeerFINAgo > 0:
		x.finReceivedAt = at - int64(v.PeerFINAgo)
	}
	s.kept = append(s.kept, int32(len(j.endings)))
	j.endings = append(j.endings, x)
}

func (x *ending) received() bool { return x.path == events.RecvRST }

// isReply reports whether an ending is a RST that answers a segment.
func (x *ending) isReply() bool { return x.rst && (x.segmentSeq != 0 || x.segmentAck != 0) }

// isConnected reports whether an ending is of a connection, not of a listener.
func (x *ending) isConnected() bool { return x.remote.IsValid() && x.remote.Port() != 0 }

// Clock is what is known of the clock of a host.
type Clock struct {
	Host *events.Host
	// Ahead is by how much its wall clock is ahead of the first one's, the median of Samples: of how many segments that
	// one end sent and the other received. If there are none, the wall clocks are taken to be right.
	Ahead   time.Duration
	Spread  time.Duration // half of the samples are nearer to the median than this
	Samples int
}

// Result is what [Join.Conclude] found.
type Result struct {
	Joined    int // connections of which both ends are on different hosts
	ByAddress int // of these, those that were found by their addresses
	Resets    int // RSTs without a connection of their sender, found by their sequence numbers
	Ambiguous int // connections that have more than one candidate, and are not joined
	OneEnd    int // connections of which no other end was found
	Twice     int // endings that are in two recordings of one host
	Beyond    int // endings that were not compared, because there are too many
	Clocks    []Clock

	j *Join
	// late are the causes that come after what they led to by these clocks, and when that is to be shown.
	late map[*events.Past]time.Time
}

// Conclude compares the endings that were added.
func (j *Join) Conclude() *Result {
	r := &Result{Beyond: j.beyond, j: j, late: map[*events.Past]time.Time{}}
	r.Twice = j.dropDuplicates()
	ends := j.ends()
	m := &matcher{j: j, Result: r, ends: ends}
	m.byID()
	j.measure(m.pairs)
	m.resetsByNumber()
	j.measure(m.pairs)
	m.byAddress()
	j.measure(m.pairs)
	m.causes()
	m.count()
	for _, c := range j.clocks {
		r.Clocks = append(r.Clocks, Clock{c.host, time.Duration(-c.offset), time.Duration(c.found.spread), c.found.samples})
	}
	return r
}

// Complete adds to an ending what was found: its host, its time by the first clock, and the other end. It reports
// whether the ending is to be shown: not if another recording of its host has it. number is that of the ending among
// all of its recording, from 0.
func (r *Result) Complete(recording, number int, e *events.Ending) bool {
	s := r.j.sources[recording]
	e.Host = s.host
	e.Time = e.Time.Add(time.Duration(s.clock.wall - s.wall + s.clock.offset))
	if number >= len(s.kept) {
		return true
	}
	x := &r.j.endings[s.kept[number]]
	if x.end != nil && x.end.other != nil {
		if there := x.end.other.local; there != e.Remote {
			e.PeerLocal = there
		}
	}
	if x.cause >= 0 {
		r.explain(e, x, &r.j.endings[x.cause])
	}
	if x.effect >= 0 {
		e.Cause = r.j.appendEffect(e.Cause, x, &r.j.endings[x.effect])
	}
	return !x.isDuplicate
}

// After returns when an ending that was completed is to be shown, by the first clock: not before its cause.
func (r *Result) After(e *events.Ending) time.Time {
	if at, known := r.late[e.Peer]; known {
		return at
	}
	return e.Time
}

// shown returns the time of an ending by the first clock.
func (j *Join) shown(x *ending) int64 { return x.at + j.clocks[x.clock].offset }
