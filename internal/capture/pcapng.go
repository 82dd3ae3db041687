package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"iter"
)

// Types of blocks.
const (
	sectionHeader  = 0x0a0d0d0a
	interfaceBlock = 1
	packetBlock    = 2 // obsolete
	simplePacket   = 3
	enhancedPacket = 6
)

// Options.
const (
	endOfOptions   = 0
	commentOption  = 1
	userAppl       = 4  // of a section
	resolution     = 9  // of an interface
	fcsLength      = 13 // of an interface
	timeOffset     = 14 // of an interface
	unknownLength  = ^uint64(0)
	byteOrderMagic = 0x1a2b3c4d
)

const (
	minBlock = 12 // type, length, length
	// Where options begin: of a section, an interface, and of a packet without its data.
	sectionOptions   = 24
	interfaceOptions = 16
	packetOptions    = 28
	simpleData       = 12
)

// block is a block whose length is that of the file.
type block struct {
	at, length int64
	kind       uint32
	order      binary.ByteOrder
	begin      []byte // all of it or, if that does not fit into the buffer, its first bytes; valid until the next read
}

// isWhole reports whether all of the block is in begin.
func (b *block) isWhole() bool { return int64(len(b.begin)) == b.length }

// section reads the blocks of a pcapng file. It consumes none: its user does.
type section struct {
	file  *File
	r     *bufio.Reader
	at    int64            // of the next block
	order binary.ByteOrder // of this section; nil before the first
	links []link
}

// maxLinks limits the interfaces of a section. Packets of more are not looked into.
const maxLinks = 1 << 16

// next returns the next block, io.EOF, a [*Damage], or the error of reading the file.
func (s *section) next(b *block) error {
	left := s.file.size - s.at
	if left == 0 {
		return io.EOF
	}
	begin, err := s.r.Peek(int(min(minBlock, left)))
	switch {
	case err != nil:
		return readError(err)
	case len(begin) < minBlock:
		return s.damage("the file ends within a block")
	}
	*b = block{at: s.at, order: s.order}
	if binary.BigEndian.Uint32(begin) == sectionHeader { // the same in both orders
		if b.order = orderOf(begin[8:]); b.order == nil {
			return s.damage("a section has no byte order")
		}
	}
	if b.order == nil {
		return s.damage("no section begins")
	}
	b.kind, b.length = b.order.Uint32(begin), int64(b.order.Uint32(begin[4:]))
	switch {
	case b.length < minimum(b.kind) || b.length%4 != 0:
		return s.damage("a block has an impossible length")
	case b.length > left:
		return s.damage("the file ends within a block")
	}
	if b.begin, err = s.r.Peek(int(b.inMemory())); err != nil {
		return readError(err)
	}
	end, err := s.trailer(b)
	if err == nil && int64(end) != b.length {
		return s.damage("a block has two lengths")
	}
	return err
}

// inMemory returns how many bytes of a block are looked at.
func (b *block) inMemory() int64 {
	if b.length > bufferSize {
		return packetOptions + lookInto
	}
	return b.length
}

// trailer returns the second length of a block.
func (s *section) trailer(b *block) (uint32, error) {
	if b.isWhole() {
		return b.order.Uint32(b.begin[b.length-4:]), nil
	}
	var end [4]byte
	_, err := s.file.from.ReadAt(end[:], b.at+b.length-4)
	return b.order.Uint32(end[:]), readError(err)
}

// readError returns an error of reading the file, which may have been cut since it was opened.
func readError(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (s *section) damage(what string) *Damage { return &Damage{At: s.at, What: what} }

func minimum(kind uint32) int64 {
	switch kind {
	case sectionHeader:
		return sectionOptions + 4
	case interfaceBlock:
		return interfaceOptions + 4
	case packetBlock, enhancedPacket:
		return packetOptions + 4
	case simplePacket:
		return simpleData + 4
	}
	return minBlock
}

func orderOf(magic []byte) binary.ByteOrder {
	switch {
	case binary.LittleEndian.Uint32(magic) == byteOrderMagic:
		return binary.LittleEndian
	case binary.BigEndian.Uint32(magic) == byteOrderMagic:
		return binary.BigEndian
	}
	return nil
}

// enter applies a block to what is known of the section.
func (s *section) enter(b *block) {
	s.at = b.at + b.length
	switch b.kind {
	case sectionHeader:
		s.order, s.links = b.order, s.links[:0]
	case interfaceBlock:
		if len(s.links) < maxLinks {
			s.links = append(s.links, describedLink(b))
		}
	}
}

// describedLink reads an Interface Description Block.
func describedLink(b *block) link {
	l := link{kind: int(b.order.Uint16(b.begin[8:])), units: 1e6}
	described := b.begin[interfaceOptions:min(int64(len(b.begin)), b.length-4)]
	for code, value := range options(b.order, described) {
		switch {
		case code == resolution && len(value) == 1:
			l.units = unitsOf(value[0])
		case code == timeOffset && len(value) == 8:
			l.offset = int64(b.order.Uint64(value))
		}
	}
	return l
}

// unitsOf returns the units of time in a second of an if_tsresol, 0 if they do not fit.
func unitsOf(resolution byte) uint64 {
	if exponent := resolution & 0x7f; resolution&0x80 != 0 {
		if exponent > 63 {
			return 0
		}
		return 1 << exponent
	}
	units := uint64(1)
	for range resolution {
		if units > 1e18 {
			return 0
		}
		units *= 10
	}
	return units
}

// options yields options, as far as they are whole.
func options(order binary.ByteOrder, rest []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(rest) >= 4 {
			code, length := order.Uint16(rest), int(order.Uint16(rest[2:]))
			if code == endOfOptions || 4+length > len(rest) || !yield(code, rest[4:4+length]) {
				return
			}
			rest = rest[min(len(rest), 4+padded(length)):]
		}
	}
}

// padded returns a length with the padding to 32 bits.
func padded[T int | int64](length T) T { return (length + 3) &^ 3 }

// optionsOf returns where the options of a block begin to which a comment can be added, or false.
func optionsOf(b *block) (int64, bool) {
	switch b.kind {
	case sectionHeader:
		return sectionOptions, true
	case enhancedPacket, packetBlock:
		from := packetOptions + padded(int64(b.order.Uint32(b.begin[20:])))
		return from, from+4 <= b.length
	}
	return 0, false
}

// scanBlocks looks into all packets of a pcapng file.
func (f *File) scanBlocks(p *packets) error {
	s := &section{file: f, r: f.reader()}
	var b block
	for {
		if err := s.next(&b); err != nil {
			return p.contents.end(err)
		}
		s.enter(&b)
		if b.kind == sectionHeader && b.order.Uint64(b.begin[16:]) != unknownLength {
			p.contents.sectionLengths = true
		}
		var fr frame
		if s.packet(&b, &fr) {
			p.add(&fr)
		}
		if _, err := s.r.Discard(int(b.length)); err != nil {
			return readError(err)
		}
	}
}

// packet reads a block with a packet into a frame, and reports whether it has one.
func (s *section) packet(b *block, fr *frame) bool {
	var id, captured uint32
	data := int64(packetOptions)
	switch b.kind {
	case enhancedPacket:
		id = b.order.Uint32(b.begin[8:])
	case packetBlock:
		id = uint32(b.order.Uint16(b.begin[8:]))
	case simplePacket:
		data = simpleData
		fr.wire = b.order.Uint32(b.begin[8:])
		captured = fr.wire // or less: the rest of the block limits it
	default:
		return false
	}
	if b.kind != simplePacket {
		captured, fr.wire = b.order.Uint32(b.begin[20:]), b.order.Uint32(b.begin[24:])
		fr.time = uint64(b.order.Uint32(b.begin[12:]))<<32 | uint64(b.order.Uint32(b.begin[16:]))
	}
	if int(id) < len(s.links) {
		fr.link = &s.links[id]
	}
	end := min(data+min(int64(captured), lookInto), b.length-4, int64(len(b.begin)))
	fr.data = b.begin[data:end]
	_, fr.commentable = optionsOf(b)
	return true
}
