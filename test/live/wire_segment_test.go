//go:build linux

package live

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TCP flags of RFC 9293, section 3.1.
const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
)

// segment is a TCP segment as its sender put it on the wire.
type segment struct {
	sentNS   uint64 // CLOCK_MONOTONIC, nanoseconds
	src, dst netip.AddrPort
	seq, ack uint32
	flags    uint8
	payload  uint32 // bytes
	tos      uint8  // type of service or traffic class
}

// sender returns the end of the connection that sent the segment.
func (s segment) sender() key { return key{s.src, s.dst} }

// finSeq returns the sequence number of the FIN. A retransmission may have other
// data before it, but the number is the same.
func (s segment) finSeq() uint32 {
	seq := s.seq + s.payload
	if s.flags&flagSYN != 0 {
		seq++
	}
	return seq
}

// inReply reports whether this is a RST in reply to a segment: it has the
// sequence number which that segment acknowledged and no ACK, or number 0.
func (s segment) inReply() bool {
	return s.flags&flagRST != 0 && (s.flags&flagACK == 0 || s.seq == 0)
}

func (s segment) String() string {
	var flags []string
	for flag, name := range map[uint8]string{flagFIN: "FIN", flagSYN: "SYN", flagRST: "RST", flagACK: "ACK"} {
		if s.flags&flag != 0 {
			flags = append(flags, name)
		}
	}
	return fmt.Sprintf("%d %v > %v %s seq %d ack %d payload %d",
		s.sentNS, s.src, s.dst, strings.Join(flags, " "), s.seq, s.ack, s.payload)
}

// parseSegment parses a packet that begins with its IP header. It may be
// truncated after the TCP header: lengths are those of the headers. ok is false
// if it is not an unfragmented TCP segment.
func parseSegment(packet []byte) (s segment, ok bool) {
	if len(packet) == 0 {
		return s, false
	}
	switch packet[0] >> 4 {
	case 4:
		return parseIPv4(packet)
	case 6:
		return parseIPv6(packet)
	}
	return s, false
}

func parseIPv4(p []byte) (s segment, ok bool) {
	if len(p) < 20 {
		return s, false
	}
	header, total := int(p[0]&15)*4, int(binary.BigEndian.Uint16(p[2:]))
	fragment := binary.BigEndian.Uint16(p[6:]) & 0x3fff // more to come, or not the first
	if header < 20 || header > len(p) || total < header || fragment != 0 || p[9] != unix.IPPROTO_TCP {
		return s, false
	}
	src, dst := netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	s, ok = parseTCP(p[header:], total-header, src, dst)
	if ok {
		s.tos = p[1]
	}
	return s, ok
}

// parseIPv6 rejects extension headers: Linux sends TCP without any.
func parseIPv6(p []byte) (s segment, ok bool) {
	if len(p) < 40 || p[6] != unix.IPPROTO_TCP {
		return s, false
	}
	src, dst := netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
	s, ok = parseTCP(p[40:], int(binary.BigEndian.Uint16(p[4:])), src, dst)
	if ok {
		s.tos = uint8(binary.BigEndian.Uint16(p) >> 4)
	}
	return s, ok
}

func parseTCP(p []byte, length int, src, dst netip.Addr) (s segment, ok bool) {
	if len(p) < 20 {
		return s, false
	}
	header := int(p[12]>>4) * 4
	if header < 20 || length < header {
		return s, false
	}
	return segment{
		src:     netip.AddrPortFrom(src, binary.BigEndian.Uint16(p[0:])),
		dst:     netip.AddrPortFrom(dst, binary.BigEndian.Uint16(p[2:])),
		seq:     binary.BigEndian.Uint32(p[4:]),
		ack:     binary.BigEndian.Uint32(p[8:]),
		flags:   p[13],
		payload: uint32(length - header),
	}, true
}

// Packets of Linux, from the IP header on.
var (
	finIPv4 = []byte{
		0x45, 0, 0, 57, 0x12, 0x34, 0x40, 0, 64, unix.IPPROTO_TCP, 0, 0, 127, 0, 0, 1, 127, 0, 0, 2,
		0x1f, 0x90, 0x00, 0x50, 0, 0, 1, 0, 0, 0, 2, 0, 0x80, flagFIN | flagACK, 2, 0, 0, 0, 0, 0,
		1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 'h', 'e', 'l', 'l', 'o',
	}
	rstIPv6 = []byte{
		0x60, 0, 0, 0, 0, 20, unix.IPPROTO_TCP, 64,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
		0x00, 0x50, 0x1f, 0x90, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x50, flagRST, 0, 0, 0, 0, 0, 0,
	}
)

func TestParseSegment(t *testing.T) {
	changed := func(packet []byte, addr int, to byte) []byte {
		p := append([]byte(nil), packet...)
		p[addr] = to
		return p
	}
	fin := segment{
		src: netip.MustParseAddrPort("127.0.0.1:8080"), dst: netip.MustParseAddrPort("127.0.0.2:80"),
		seq: 0x100, ack: 0x200, flags: flagFIN | flagACK, payload: 5,
	}
	rst := segment{
		src: netip.MustParseAddrPort("[::1]:80"), dst: netip.MustParseAddrPort("[::1]:8080"),
		seq: 0xffffffff, flags: flagRST,
	}
	withTOS := func(s segment, tos uint8) segment { s.tos = tos; return s }
	for _, tt := range []struct {
		name   string
		packet []byte
		want   segment // zero: not taken
	}{
		{"FIN with data", finIPv4, fin},
		{"cut behind the TCP header", finIPv4[:40], fin},
		{"type of service", changed(finIPv4, 1, 4), withTOS(fin, 4)},
		{"traffic class", changed(changed(rstIPv6, 0, 0x61), 1, 0x20), withTOS(rst, 0x12)},
		{"RST, IPv6", rstIPv6, rst},
		{"nothing", nil, segment{}},
		{"IPv4 header cut", finIPv4[:19], segment{}},
		{"TCP header cut", finIPv4[:39], segment{}},
		{"IPv6 header cut", rstIPv6[:39], segment{}},
		{"IP version 5", changed(finIPv4, 0, 0x55), segment{}},
		{"IPv4 header too short", changed(finIPv4, 0, 0x44), segment{}},
		{"IPv4 header longer than the packet", changed(finIPv4, 0, 0x4f)[:56], segment{}},
		{"total length shorter than the headers", changed(finIPv4, 3, 51), segment{}},
		{"UDP", changed(finIPv4, 9, unix.IPPROTO_UDP), segment{}},
		{"first fragment", changed(finIPv4, 6, 0x20), segment{}},
		{"later fragment", changed(finIPv4, 7, 1), segment{}},
		{"UDP, IPv6", changed(rstIPv6, 6, unix.IPPROTO_UDP), segment{}},
		{"TCP header too short", changed(rstIPv6, 52, 0x40), segment{}},
	} {
		got, ok := parseSegment(tt.packet)
		if got != tt.want || ok != (tt.want != segment{}) {
			t.Errorf("%s: %v, %v, want %v", tt.name, got, ok, tt.want)
		}
	}
}

func TestFINSequence(t *testing.T) {
	for _, tt := range []struct {
		s    segment
		want uint32
	}{
		{segment{seq: 7, flags: flagFIN}, 7},
		{segment{seq: 7, flags: flagFIN | flagACK, payload: 3}, 10},
		{segment{seq: 7, flags: flagFIN | flagSYN, payload: 3}, 11},
		{segment{seq: 0xffffffff, flags: flagFIN, payload: 3}, 2},
	} {
		if got := tt.s.finSeq(); got != tt.want {
			t.Errorf("%v: FIN at %d, want %d", tt.s, got, tt.want)
		}
	}
}

// For any input the parser does not panic, and reports no more payload than a
// packet can have.
func FuzzParseSegment(f *testing.F) {
	f.Add(finIPv4)
	f.Add(rstIPv6)
	f.Fuzz(func(t *testing.T, packet []byte) {
		s, ok := parseSegment(packet)
		if !ok && s != (segment{}) {
			t.Errorf("not taken, but %v", s)
		}
		if s.payload > 0xffff {
			t.Errorf("%d bytes of payload", s.payload)
		}
	})
}
