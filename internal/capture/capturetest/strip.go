// Package capturetest undoes the comments on packets in a capture, for tests.
package capturetest

import (
	"encoding/binary"
	"strings"
)

// Strip returns a whole pcapng file without the comments that begin with a prefix. It shares no code with what added
// them, and panics if the file is not whole.
func Strip(file []byte, prefix string) []byte {
	var out []byte
	var order binary.ByteOrder
	section, removed := -1, 0 // where the section begins in out, and what was removed behind its header
	end := func() {
		if section < 0 {
			return
		}
		if length := order.Uint64(out[section+16:]); length != ^uint64(0) {
			order.PutUint64(out[section+16:], length-uint64(removed))
		}
	}
	for len(file) > 0 {
		header := string(file[:4]) == "\x0a\x0d\x0d\x0a"
		if header {
			end()
			if order = binary.ByteOrder(binary.BigEndian); file[8] == 0x4d {
				order = binary.LittleEndian
			}
			section, removed = len(out), 0
		}
		length := int(order.Uint32(file[4:]))
		block := without(file[:length], order, prefix)
		out, file = append(out, block...), file[length:]
		if !header {
			removed += length - len(block)
		}
	}
	end()
	return out
}

// without returns a block without the comment, if it has one.
func without(block []byte, order binary.ByteOrder, prefix string) []byte {
	at := 24 // of the options of a section
	switch order.Uint32(block) {
	case 2, 6:
		at = 28 + (int(order.Uint32(block[20:]))+3)/4*4
	case 0x0a0d0d0a:
	default:
		return block
	}
	if at+4 >= len(block) || order.Uint16(block[at:]) != 1 || !strings.HasPrefix(string(block[at+4:]), prefix) {
		return block
	}
	behind := at + 4 + (int(order.Uint16(block[at+2:]))+3)/4*4
	if string(block[behind:len(block)-4]) == "\x00\x00\x00\x00" { // there was no other option
		behind += 4
	}
	stripped := append(append([]byte(nil), block[:at]...), block[behind:]...)
	order.PutUint32(stripped[4:], uint32(len(stripped)))
	order.PutUint32(stripped[len(stripped)-4:], uint32(len(stripped)))
	return stripped
}
