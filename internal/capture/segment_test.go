package capture

import (
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// changed returns a packet with other bytes at an offset.
func changed(packet []byte, at int, to ...byte) []byte {
	p := slices.Clone(packet)
	copy(p[at:], to)
	return p
}

func TestParse(t *testing.T) {
	mac := make([]byte, 12)
	ipv4, ipv6 := []byte{8, 0}, []byte{0x86, 0xdd}
	tag := []byte{0x81, 0, 0, 7}
	plain6 := slices.Concat(changed(rst6[:40], 4, 0, 20, protocolTCP), rst6[56:])
	fragment6 := slices.Concat(changed(rst6[:40], 4, 0, 28, 44), []byte{6, 0, 0, 0, 0, 0, 0, 1}, rst6[56:])
	authentic6 := slices.Concat(changed(rst6[:40], 4, 0, 32, 51), []byte{6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, rst6[56:])
	// Tunnels: an IPv4 packet that carries another one, behind a header.
	outer := func(protocol byte, header ...byte) []byte {
		ip := changed(fin4[:20], 2, 0, byte(20+len(header)+len(fin4)))
		return slices.Concat(changed(ip, 9, protocol), header)
	}
	udp := func(port uint16) []byte { return []byte{0, 9, byte(port >> 8), byte(port), 0, 0, 0, 0} }
	frame4 := slices.Concat(mac, ipv4, fin4)
	vxlan := slices.Concat(outer(protocolUDP, udp(portVXLAN)...), []byte{8, 0, 0, 0, 0, 0, 9, 0}, frame4)
	geneve := slices.Concat(outer(protocolUDP, udp(portGeneve)...), []byte{1, 0, 0x65, 0x58, 0, 0, 9, 0}, mac[:4], frame4)
	keyed := []byte{0xb0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1}
	bridged := slices.Concat(outer(protocolGRE, 0, 0, 0x65, 0x58), mac, tag, ipv4, fin4)
	for _, tt := range []struct {
		name   string
		kind   int
		packet []byte
		want   string // empty: no segment
		what   parsed
	}{
		{"Ethernet", linkEthernet, slices.Concat(mac, ipv4, fin4), fin4Text, parsedTCP},
		{"Ethernet, padded", linkEthernet, slices.Concat(mac, ipv6, plain6, make([]byte, 6)), rst6Text, parsedTCP},
		{"VLAN", linkEthernet, slices.Concat(mac, tag, ipv4, fin4), fin4Text, parsedTCP},
		{"two VLANs", linkEthernet, slices.Concat(mac, []byte{0x88, 0xa8, 0, 1}, tag, ipv6, rst6), rst6Text, parsedTCP},
		{"only VLANs", linkEthernet, slices.Concat(mac, slices.Repeat(tag, 20)), "", parsedOther},
		{"802.3", linkEthernet, slices.Concat(mac, []byte{0, 57}, fin4), "", parsedOther},
		{"Ethernet, cut", linkEthernet, mac, "", parsedOther},
		{"cooked", linkSLL, slices.Concat(make([]byte, 14), ipv4, fin4), fin4Text, parsedTCP},
		{"cooked, VLAN", linkSLL, slices.Concat(make([]byte, 14), tag, ipv4, fin4), fin4Text, parsedTCP},
		{"cooked 2", linkSLL2, slices.Concat(ipv6, make([]byte, 18), rst6), rst6Text, parsedTCP},
		{"cooked 2, VLAN", linkSLL2, slices.Concat(tag[:2], make([]byte, 18), []byte{0, 7}, ipv4, fin4), fin4Text, parsedTCP},
		{"cooked 2, cut", linkSLL2, ipv4, "", parsedOther},
		{"raw", linkRaw, fin4, fin4Text, parsedTCP},
		{"raw 12", linkRaw12, rst6, rst6Text, parsedTCP},
		{"IPv6 alone", linkIPv6, rst6, rst6Text, parsedTCP},
		{"raw, empty", linkRaw, nil, "", parsedOther},
		{"null, little endian", linkNull, slices.Concat([]byte{2, 0, 0, 0}, fin4), fin4Text, parsedTCP},
		{"null, big endian", linkNull, slices.Concat([]byte{0, 0, 0, 30}, rst6), rst6Text, parsedTCP},
		{"loop", linkLoop, slices.Concat([]byte{0, 0, 0, 2}, fin4), fin4Text, parsedTCP},
		{"null of AppleTalk", linkNull, slices.Concat([]byte{0, 0, 0, 16}, fin4), "", parsedOther},
		{"IEEE 802.11", 105, fin4, "", parsedUnknown},
		{"IPv6", linkRaw, plain6, rst6Text, parsedTCP},
		{"authenticated", linkRaw, authentic6, rst6Text, parsedTCP},
		{"whole fragment", linkRaw, fragment6, rst6Text, parsedTCP},
		{"later fragment, IPv6", linkRaw, changed(fragment6, 42, 0, 8), "", parsedOther},
		{"later fragment", linkRaw, changed(fin4, 6, 0, 1), "", parsedOther},
		{"cut behind the flags", linkRaw, fin4[:34], fin4Text, parsedTCP},
		{"cut before the flags", linkRaw, fin4[:33], "", parsedCut},
		{"cut within IPv4", linkRaw, fin4[:19], "", parsedOther},
		{"cut within an extension", linkRaw, rst6[:45], "", parsedOther},
		{"cut behind the extensions", linkRaw, rst6[:56], "", parsedCut},
		{"extension longer than the packet", linkRaw, changed(rst6, 41, 255), "", parsedOther},
		{"IPv4 header too short", linkRaw, changed(fin4, 0, 0x44), "", parsedOther},
		{"IPv4 header longer than the packet", linkRaw, changed(fin4, 3, 22), "", parsedOther},
		{"TCP header too short", linkRaw, changed(fin4, 32, 0x40), "", parsedOther},
		{"TCP header longer than the packet", linkRaw, changed(fin4, 3, 51), "", parsedOther},
		{"IPv4 in IPv4", linkRaw, slices.Concat(outer(protocolIPv4), fin4), fin4Text, parsedTCP},
		{"IPv6 in IPv4", linkRaw, slices.Concat(outer(protocolIPv6), rst6), rst6Text, parsedTCP},
		{"IPv4 in IPv6", linkRaw, slices.Concat(changed(rst6[:40], 6, 4), fin4), fin4Text, parsedTCP},
		{"first fragment of a tunnel", linkRaw, slices.Concat(changed(outer(protocolIPv4), 6, 0x20), fin4), fin4Text, parsedTCP},
		{"GRE", linkRaw, slices.Concat(outer(protocolGRE, 0, 0, 8, 0), fin4), fin4Text, parsedTCP},
		{"GRE with all fields", linkRaw, slices.Concat(outer(protocolGRE, keyed...), fin4), fin4Text, parsedTCP},
		{"Ethernet in GRE", linkRaw, bridged, fin4Text, parsedTCP},
		{"GRE of version 1", linkRaw, slices.Concat(outer(protocolGRE, 0, 1, 8, 0), fin4), "", parsedOther},
		{"GRE, cut", linkRaw, outer(protocolGRE, 0x80, 0, 8, 0), "", parsedOther},
		{"VXLAN", linkRaw, vxlan, fin4Text, parsedTCP},
		{"VXLAN on Linux's port", linkRaw, changed(vxlan, 22, 0x21, 0x18), fin4Text, parsedTCP},
		{"VXLAN's port, something else", linkRaw, changed(vxlan, 28, 0), "", parsedOther},
		{"VXLAN, cut", linkRaw, vxlan[:44], "", parsedOther},
		{"Geneve", linkRaw, geneve, fin4Text, parsedTCP},
		{"Geneve of version 1", linkRaw, changed(geneve, 28, 0x41), "", parsedOther},
		{"four tunnels", linkRaw, slices.Concat(slices.Repeat(outer(protocolIPv4), 4), fin4), fin4Text, parsedTCP},
		{"five tunnels", linkRaw, slices.Concat(slices.Repeat(outer(protocolIPv4), 5), fin4), "", parsedOther},
		{"frames within frames", linkEthernet, slices.Repeat(slices.Concat(mac, []byte{0x65, 0x58}), 9), "", parsedOther},
		{"UDP", linkRaw, changed(fin4, 9, 17), "", parsedOther},
		{"UDP, IPv6", linkRaw, changed(rst6, 48, 17), "", parsedOther},
		{"IP version 5", linkRaw, changed(fin4, 0, 0x55), "", parsedOther},
		{"IPv4 in IPv6's place", linkIPv6, changed(fin4, 0, 0x65), "", parsedOther},
		{"split by the interface", linkRaw, changed(fin4, 2, 0, 0), fin4Text, parsedTCP},
		{"jumbo", linkRaw, changed(plain6, 4, 0, 0), rst6Text, parsedTCP},
	} {
		s := &Segment{}
		what := s.parse(tt.kind, tt.packet, uint32(len(tt.packet)))
		got := ""
		if what == parsedTCP {
			got = textOf(s)
		}
		if got != tt.want || what != tt.what || s.Fragment {
			t.Errorf("%s: %d, %s, want %s", tt.name, what, got, tt.want)
		}
	}
	for name, first := range map[string][]byte{"IPv4": changed(fin4, 6, 0x20), "IPv6": changed(fragment6, 43, 1)} {
		s := &Segment{}
		if s.parse(linkRaw, first, uint32(len(first))) != parsedTCP || !s.Fragment {
			t.Errorf("first fragment, %s: %+v", name, s)
		}
	}
}

// For any packet the parser does not panic, and finds what gopacket finds in it.
func FuzzParse(f *testing.F) {
	f.Add(fin4)
	f.Add(rst6)
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, kind := range []int{linkEthernet, linkSLL, linkSLL2, linkNull, linkRaw, linkIPv6, 105} {
			new(Segment).parse(kind, packet, uint32(len(packet)))
		}
		s := &Segment{}
		if len(packet) == 0 || s.parse(linkRaw, packet, uint32(len(packet))) != parsedTCP {
			return
		}
		if packet[0]>>4 != 4 || s.Fragment || s.tunnels > 0 {
			return
		}
		decoded := gopacket.NewPacket(packet, layers.LayerTypeIPv4, gopacket.DecodeOptions{})
		ip, _ := decoded.NetworkLayer().(*layers.IPv4)
		tcp, _ := decoded.TransportLayer().(*layers.TCP)
		if ip == nil || tcp == nil || decoded.ErrorLayer() != nil {
			return // gopacket wants whole headers
		}
		if s.Seq != tcp.Seq || s.Ack != tcp.Ack || s.Src.Port() != uint16(tcp.SrcPort) || s.Flags&FIN != 0 != tcp.FIN ||
			!slices.Equal(s.Src.Addr().AsSlice(), ip.SrcIP.To4()) {
			t.Errorf("%s, and gopacket %v", textOf(s), decoded)
		}
	})
}
