package annotate

import (
	"net/netip"
	"time"

	"github.com/closetrace/closetrace/internal/capture"
	"github.com/closetrace/closetrace/internal/events"
)

// fit is how well a segment fits an ending: the lower, the better.
type fit uint8

const (
	noFit       fit = iota
	exact           // the addresses and the sequence number that the ending implies
	within          // a sequence number between what was acknowledged and what was written
	byTime          // the recording has no sequence numbers
	translated      // other addresses: the sequence numbers, and nothing else fits them
	received        // the ending of the receiver, with its sequence number
	receivedNAT     // the same, with other addresses
)

// expected is a FIN or a RST that an ending implies.
type expected struct {
	ending   *events.Ending
	src, dst netip.AddrPort
	flag     uint8 // capture.FIN or capture.RST
	received bool
}

// segmentsOf returns the segments that an ending implies.
func segmentsOf(e *events.Ending) []expected {
	local, remote := unmapped(e.Local), unmapped(e.Remote)
	var all []expected
	if e.FIN {
		all = append(all, expected{e, local, remote, capture.FIN, false})
	}
	if e.RST {
		all = append(all, expected{e, local, remote, capture.RST, false})
	}
	switch {
	case e.ReceivedRST():
		all = append(all, expected{e, remote, local, capture.RST, true})
	case e.HasFIN() && !e.FIN:
		all = append(all, expected{e, remote, local, capture.FIN, true})
	}
	return all
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// flagOf returns whether a segment is looked for as a FIN or as a RST.
func flagOf(s *capture.Segment) uint8 {
	if s.Flags&capture.RST != 0 {
		return capture.RST
	}
	return capture.FIN
}

// number returns the sequence number by which a segment is found.
func number(s *capture.Segment) uint32 {
	if flagOf(s) == capture.RST {
		return s.Seq
	}
	return s.FINSeq()
}

// numbers returns the sequence numbers that the segment can have, if it is exactly what the ending implies. 0 stands
// for one that is not known.
func (x *expected) numbers() [2]uint32 {
	v := &x.ending.Evidence
	switch {
	case x.flag == capture.FIN && x.received:
		return [2]uint32{v.RcvNxt, v.RcvNxt - min(v.RcvNxt, 1)} // the FIN itself counts, if it was processed
	case x.flag == capture.FIN:
		return [2]uint32{sentEnd(v)}
	case x.received && v.SegmentSeq == 0 && v.PeerFIN:
		return [2]uint32{v.RcvNxt, v.RcvNxt - min(v.RcvNxt, 1)} // the FIN's own number resets as well: tcp_reset_check
	case x.received:
		return [2]uint32{v.SegmentSeq, v.RcvNxt}
	}
	return [2]uint32{v.SegmentAck, v.SndNxt}
}

// sentEnd returns the sequence number of a FIN that follows all that was written, 0 if unknown.
func sentEnd(v *events.Evidence) uint32 {
	if v.SndNxt == 0 {
		return 0
	}
	return v.SndNxt + v.UnsentBytes
}

// match returns how well a segment with the same addresses fits, but for its time.
func (x *expected) match(s *capture.Segment) fit {
	v := &x.ending.Evidence
	switch {
	case s.Fragment && x.flag == capture.FIN:
		return noFit // where its FIN is cannot be computed
	case x.received:
		if x.hasNumber(s) || x.isRefusal(s) {
			return received
		}
		return noFit
	case x.hasNumber(s) || x.flag == capture.RST && answers(v, s):
		return exact
	case v.SndNxt|v.SegmentSeq|v.SegmentAck == 0:
		return byTime
	case x.flag == capture.RST && v.SndNxt != 0:
		first := v.SndNxt - v.UnackedBytes
		if s.Seq-first <= v.UnackedBytes+v.UnsentBytes+1 { // tcp_acceptable_seq; one more behind a FIN
			return within
		}
	}
	return noFit
}

func (x *expected) hasNumber(s *capture.Segment) bool {
	for _, n := range x.numbers() {
		if n != 0 && number(s) == n {
			return true
		}
	}
	return false
}

// answers reports whether a RST answers the segment of the evidence, which had no ACK: its number is then 0, and it
// acknowledges that segment.
func answers(v *events.Evidence, s *capture.Segment) bool {
	const synAndFIN = 2
	return v.SegmentSeq != 0 && v.SegmentAck == 0 && s.Seq == 0 && s.Flags&capture.ACK != 0 &&
		s.Ack-(v.SegmentSeq+v.SegmentBytes) <= synAndFIN
}

// isRefusal reports whether a RST refuses the SYN of the ending: its number is 0.
func (x *expected) isRefusal(s *capture.Segment) bool {
	v := &x.ending.Evidence
	return x.flag == capture.RST && s.Seq == 0 && s.Flags&capture.ACK != 0 && v.SndNxt != 0 && s.Ack == v.SndNxt
}

// matchTranslated returns how well a segment with other addresses fits: with both sequence numbers, or with one and one
// of the two ends.
func (x *expected) matchTranslated(s *capture.Segment) fit {
	if s.Fragment || !x.hasNumber(s) {
		return noFit
	}
	v := &x.ending.Evidence
	acknowledges := v.RcvNxt
	if x.received {
		acknowledges = v.SegmentAck
	}
	sameAck := acknowledges != 0 && s.Flags&capture.ACK != 0 && s.Ack-acknowledges <= 1 // the peer's FIN may be new
	if !sameAck && s.Src != x.src && s.Dst != x.dst {
		return noFit
	}
	if x.received {
		return receivedNAT
	}
	return translated
}

// How much later, or earlier, than its ending a segment may be captured.
const (
	early = time.Second
	late  = 2 * time.Second
	// retransmitting is longer than the kernel retransmits a FIN, with the default settings.
	retransmitting = 20 * time.Minute
	atOnce         = 100 * time.Millisecond
)

// inTime reports whether a segment can be that of an ending by its time, which is delta after the ending.
func (x *expected) inTime(how fit, delta time.Duration) bool {
	took := min(time.Duration(x.ending.DurationNS), retransmitting)
	switch {
	case how == byTime:
		return delta >= -atOnce && delta <= took+atOnce
	case x.received:
		return delta >= -late && delta <= late
	case x.flag == capture.FIN:
		return delta >= -early && delta <= took+retransmitting
	}
	return delta >= -early && delta <= took+late
}
