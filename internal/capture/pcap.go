package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// Numbers of a pcap file.
const (
	microseconds = 0xa1b2c3d4
	nanoseconds  = 0xa1b23c4d
	legacyHeader = 24
	legacyPacket = 16 // header of a packet
	// plausible is the longest packet of other tools, whatever a file says of its packets.
	plausible = 256 << 10
)

// legacy is the header of a pcap file.
type legacy struct {
	order      binary.ByteOrder
	resolution byte // as if_tsresol
	snapLength uint32
	link       link
	fcsLength  byte // 0: unknown
}

func readLegacy(begin []byte) (*legacy, error) {
	if len(begin) < legacyHeader {
		return nil, errors.New("ends within its header")
	}
	l := &legacy{order: binary.LittleEndian}
	if m := l.order.Uint32(begin); m != microseconds && m != nanoseconds {
		l.order = binary.BigEndian
	}
	if l.order.Uint16(begin[4:]) != 2 {
		return nil, errors.New("is of another version of pcap")
	}
	l.resolution, l.link.units = 6, 1e6
	if l.order.Uint32(begin) == nanoseconds {
		l.resolution, l.link.units = 9, 1e9
	}
	l.snapLength = l.order.Uint32(begin[16:])
	network := l.order.Uint32(begin[20:])
	l.link.kind = int(network & 0xffff)
	if network&(1<<26) != 0 { // LT_FCS_LENGTH_PRESENT
		l.fcsLength = byte(network>>28) * 2
	}
	return l, nil
}

// legacyRecord is a packet of a pcap file.
type legacyRecord struct {
	time           uint64 // in units of the file
	captured, wire uint32
	isCut          bool // by the end of the file
}

// legacyReader reads the headers of packets. Their data is for its user to consume.
type legacyReader struct {
	file *File
	r    *bufio.Reader
	at   int64 // of the next header
}

func (f *File) legacyReader() (*legacyReader, error) {
	r := &legacyReader{file: f, r: f.reader(), at: legacyHeader}
	_, err := r.r.Discard(legacyHeader)
	return r, readError(err)
}

// next returns the next packet, io.EOF, a [*Damage], or the error of reading the file. Of a packet that the end of the
// file cuts, it returns what is there, and no error.
func (r *legacyReader) next(p *legacyRecord) error {
	left := r.file.size - r.at
	if left == 0 {
		return io.EOF
	}
	if left < legacyPacket {
		return &Damage{At: r.at, What: "the file ends within the header of a packet"}
	}
	b, err := r.r.Peek(legacyPacket)
	if err != nil {
		return readError(err)
	}
	order := r.file.legacy.order
	p.time = uint64(order.Uint32(b))*r.file.legacy.link.units + uint64(order.Uint32(b[4:]))
	p.captured, p.wire = order.Uint32(b[8:]), order.Uint32(b[12:])
	if p.captured > max(plausible, min(r.file.legacy.snapLength, 1<<30)) {
		return &Damage{At: r.at, What: "a packet has an impossible length"}
	}
	if _, err := r.r.Discard(legacyPacket); err != nil {
		return readError(err)
	}
	p.isCut = int64(p.captured) > left-legacyPacket
	p.captured = uint32(min(int64(p.captured), left-legacyPacket))
	r.at += legacyPacket + int64(p.captured)
	return nil
}

// scanLegacy looks into all packets of a pcap file.
func (f *File) scanLegacy(p *packets) error {
	r, err := f.legacyReader()
	if err != nil {
		return err
	}
	var rec legacyRecord
	for {
		if err := r.next(&rec); err != nil {
			return p.contents.end(err)
		}
		data, err := r.r.Peek(int(min(rec.captured, lookInto)))
		if err != nil {
			return readError(err)
		}
		p.add(&frame{link: &f.legacy.link, time: rec.time, wire: rec.wire, data: data, commentable: true})
		if _, err := r.r.Discard(int(rec.captured)); err != nil {
			return readError(err)
		}
		if rec.isCut {
			p.contents.Damage = &Damage{At: f.size, What: "the file ends within a packet"}
		}
	}
}
