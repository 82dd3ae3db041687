package events

import (
	"encoding/binary"
	"net/netip"
)

// Addresses is a cache of the text of IPv4 addresses: one address for each hash. A nil cache formats every address. Not
// for concurrent use.
type Addresses [memoSize]struct {
	address [4]byte
	text    [len("255.255.255.255")]byte
	length  uint8 // 0: none
}

// Append appends an IPv4 address.
func (c *Addresses) Append(b []byte, a netip.Addr) []byte {
	if c == nil {
		return a.AppendTo(b)
	}
	address := a.As4()
	slot := &c[binary.BigEndian.Uint32(address[:])*0x9e3779b1>>(32-memoBits)]
	if slot.length == 0 || slot.address != address {
		slot.address, slot.length = address, uint8(len(a.AppendTo(slot.text[:0])))
	}
	return append(b, slot.text[:slot.length]...)
}
