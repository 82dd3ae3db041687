package events

import (
	"encoding/binary"
	"net/netip"
)

// Addresses writes IPv4 addresses, and keeps some as they were written. nil keeps none. Not for concurrent use.
type Addresses [kept]struct {
	address [4]byte
	text    [len("255.255.255.255")]byte
	length  uint8 // 0: none
}

// Append appends an IPv4 address.
func (k *Addresses) Append(b []byte, a netip.Addr) []byte {
	if k == nil {
		return a.AppendTo(b)
	}
	address := a.As4()
	at := &k[binary.BigEndian.Uint32(address[:])*0x9e3779b1>>(32-keptBits)]
	if at.length == 0 || at.address != address {
		at.address, at.length = address, uint8(len(a.AppendTo(at.text[:0])))
	}
	return append(b, at.text[:at.length]...)
}
