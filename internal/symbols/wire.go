package symbols

import (
	"encoding/binary"
	"errors"
)

// A request is the number of the request and the offsets, with the descriptor of the file. An answer is the number of
// the request, a status, and the names. The number of a notice that the process has ended is 0.
const (
	answered = iota
	failed
	crashed
)

const (
	maxText    = 2*maxName + 64 // bytes of a name in an answer
	maxRequest = 8 + 8*MaxOffsets
	maxAnswer  = 9 + MaxOffsets*(11+maxText)
)

var wire = binary.LittleEndian

func appendRequest(b []byte, id uint64, offsets []uint64) []byte {
	b = wire.AppendUint64(b, id)
	for _, offset := range offsets {
		b = wire.AppendUint64(b, offset)
	}
	return b
}

func parseRequest(b []byte) (id uint64, offsets []uint64, err error) {
	if len(b) < 16 || len(b) > maxRequest || len(b)%8 != 0 {
		return 0, nil, errors.New("not a request")
	}
	id = wire.Uint64(b)
	for b = b[8:]; len(b) > 0; b = b[8:] {
		offsets = append(offsets, wire.Uint64(b))
	}
	return id, offsets, nil
}

func appendAnswer(b []byte, id uint64, status byte, names []Name) []byte {
	b = append(wire.AppendUint64(b, id), status)
	for _, n := range names {
		if len(n.Text) > maxText {
			n.Kind, n.Text = Unresolved, ""
		}
		b = wire.AppendUint64(append(b, byte(n.Kind)), n.Address)
		b = append(wire.AppendUint16(b, uint16(len(n.Text))), n.Text...)
	}
	return b
}

// parseAnswer parses an answer with n names. The process that sent it may be under the control of a file.
func parseAnswer(b []byte, n int) (id uint64, status byte, names []Name, err error) {
	broken := errors.New("not an answer")
	if len(b) < 9 {
		return 0, 0, nil, broken
	}
	id, status, b = wire.Uint64(b), b[8], b[9:]
	if status != answered {
		return id, status, nil, nil
	}
	for range n {
		if len(b) < 11 {
			return id, status, nil, broken
		}
		name := Name{Kind: Kind(b[0]), Address: wire.Uint64(b[1:])}
		size := int(wire.Uint16(b[9:]))
		if b = b[11:]; name.Kind > Unresolved || size > maxText || size > len(b) {
			return id, status, nil, broken
		}
		name.Text, b = string(b[:size]), b[size:]
		names = append(names, name)
	}
	if len(b) > 0 {
		return id, status, nil, broken
	}
	return id, status, names, nil
}
