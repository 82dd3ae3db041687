package lab

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDestroyRequest: addresses and ports stand where struct inet_diag_req_v2
// has them.
func TestDestroyRequest(t *testing.T) {
	r := destroyRequest(netip.MustParseAddrPort("127.0.0.1:80"), netip.MustParseAddrPort("127.0.0.2:5000"))
	if len(r) != 72 || binary.NativeEndian.Uint32(r) != 72 || r[16] != unix.AF_INET || r[17] != unix.IPPROTO_TCP {
		t.Errorf("request %x", r)
	}
	if binary.BigEndian.Uint16(r[24:]) != 80 || binary.BigEndian.Uint16(r[26:]) != 5000 || r[31] != 1 || r[47] != 2 {
		t.Errorf("addresses %x", r[24:60])
	}
	if r = destroyRequest(netip.MustParseAddrPort("[::1]:80"), netip.AddrPort{}); r[16] != unix.AF_INET6 || r[43] != 1 ||
		r[27] != 0 {
		t.Errorf("listener, IPv6: %x", r)
	}
}

// TestChecksum: the sum over data and its checksum is 0.
func TestChecksum(t *testing.T) {
	ip := ipHeader(Endpoint{client, server})
	if checksum(ip) != 0 || binary.BigEndian.Uint16(ip[10:]) == 0 {
		t.Errorf("IP header %x", ip)
	}
	th := segmentHeader(Endpoint{client, server}, 7, 1, 0x10)
	sum := checksum(th)
	binary.BigEndian.PutUint16(th[16:], sum)
	if checksum(th) != 0 || binary.BigEndian.Uint16(th) != client.Port() || th[13] != 0x10 {
		t.Errorf("segment %x", th)
	}
}
