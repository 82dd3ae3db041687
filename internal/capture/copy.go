package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
)

// Comments are what [File.Copy] adds. A comment is in the copy at most once.
type Comments struct {
	Program string // that writes a pcapng file of a pcap file
	File    string // comment on the first section
	// Packet returns the comment on a packet, "" for none: always the same, as it is asked for twice if the length of a
	// section is counted before.
	Packet func(number int64) string
}

// Copy writes the capture as pcapng, with comments. All else is copied as it is; a pcap file gets the headers that
// pcapng has instead of its own. c is what [File.Scan] found: after damage, the rest of a pcapng file is copied without
// comments, the rest of a pcap file is left out.
func (f *File) Copy(to io.Writer, c *Contents, add Comments) error {
	w := bufio.NewWriterSize(to, 64<<10)
	var err error
	switch {
	case f.legacy != nil:
		err = f.convert(w, add)
	case c.sectionLengths:
		measured := &copier{w: bufio.NewWriter(io.Discard), contents: c, add: add}
		if err := measured.run(f); err != nil {
			return err
		}
		err = (&copier{w: w, contents: c, add: add, longer: measured.added}).run(f)
	default:
		err = (&copier{w: w, contents: c, add: add}).run(f)
	}
	if err != nil {
		return err
	}
	return w.Flush()
}

// copier copies a pcapng file.
type copier struct {
	w        *bufio.Writer
	contents *Contents
	add      Comments

	packets  int64
	sections int
	added    []int64 // bytes to each section
	longer   []int64 // the same, of an earlier run; nil: no section says its length
}

func (c *copier) run(f *File) error {
	s := &section{file: f, r: f.reader()}
	var b block
	for c.contents.Damage == nil || s.at < c.contents.Damage.At {
		if err := s.next(&b); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		s.enter(&b)
		if err := c.block(s, &b); err != nil {
			return err
		}
	}
	_, err := io.Copy(c.w, s.r) // what is damaged
	return err
}

// block copies a block, with the comment on it.
func (c *copier) block(s *section, b *block) error {
	head := [sectionOptions]byte{} // what may change of the beginning: lengths
	changes := 8
	comment := ""
	switch b.kind {
	case sectionHeader:
		if c.sections++; c.sections == 1 {
			comment = c.add.File
		}
		c.added = append(c.added, 0)
		changes = sectionOptions
	case enhancedPacket, packetBlock, simplePacket:
		c.packets++
		if _, ok := optionsOf(b); ok {
			comment = c.add.Packet(c.packets)
		}
	}
	copy(head[:changes], b.begin)
	if said := b.order.Uint64(head[16:]); b.kind == sectionHeader && c.longer != nil && said != unknownLength {
		b.order.PutUint64(head[16:], said+uint64(c.longer[c.sections-1]))
	}
	option, split, err := s.commentFor(b, comment)
	if err != nil {
		return err
	}
	length := b.length + int64(len(option))
	if length > math.MaxUint32 {
		option, length = nil, b.length
	}
	if b.kind != sectionHeader {
		c.added[c.sections-1] += length - b.length
	}
	return c.write(s.r, b, head[:changes], option, split, length)
}

// write copies a block from r, with another beginning and length, and an option at an offset.
func (c *copier) write(r io.Reader, b *block, head, option []byte, split, length int64) error {
	order := b.order
	order.PutUint32(head[4:], uint32(length))
	if _, err := io.CopyN(io.Discard, r, int64(len(head))); err != nil {
		return readError(err)
	}
	_, _ = c.w.Write(head) // the writer keeps its error
	at := int64(len(head))
	if option != nil {
		if _, err := io.CopyN(c.w, r, split-at); err != nil {
			return readError(err)
		}
		_, _ = c.w.Write(option)
		at = split
	}
	if _, err := io.CopyN(c.w, r, b.length-4-at); err != nil {
		return readError(err)
	}
	if _, err := io.CopyN(io.Discard, r, 4); err != nil {
		return readError(err)
	}
	return binary.Write(c.w, order, uint32(length))
}

// commentFor returns the option with a comment on a block, and the offset at which it is inserted: before all other
// options, so that these need not be understood. It returns nil if the block has the comment or cannot have it.
func (s *section) commentFor(b *block, comment string) (option []byte, split int64, err error) {
	split, ok := optionsOf(b)
	if !ok || comment == "" {
		return nil, 0, nil
	}
	present, err := s.optionBytes(b, split)
	if err != nil {
		return nil, 0, err
	}
	for code, value := range options(b.order, present) {
		if code == commentOption && string(value) == comment {
			return nil, 0, nil
		}
	}
	option = appendOption(nil, b.order, commentOption, comment)
	if split+4 == b.length {
		option = append(option, 0, 0, 0, 0) // the end of options, which only a block with options has
	}
	return option, split, nil
}

// optionBytes returns the options of a block, which begin at an offset: of a large block, the first 64 KiB.
func (s *section) optionBytes(b *block, from int64) ([]byte, error) {
	if b.isWhole() {
		return b.begin[from : b.length-4], nil
	}
	read := make([]byte, min(b.length-4-from, 64<<10))
	_, err := s.file.from.ReadAt(read, b.at+from)
	return read, readError(err)
}

// appendOption appends an option, of which the text is cut to what fits.
func appendOption(o []byte, order binary.ByteOrder, code uint16, text string) []byte {
	text = text[:min(len(text), math.MaxUint16)]
	o = order.(binary.AppendByteOrder).AppendUint16(o, code)
	o = order.(binary.AppendByteOrder).AppendUint16(o, uint16(len(text)))
	o = append(o, text...)
	return append(o, make([]byte, padded(len(text))-len(text))...)
}

// convert writes a pcap file as pcapng.
func (f *File) convert(w *bufio.Writer, add Comments) error {
	order, nothing := binary.LittleEndian, strings.NewReader("")
	options := appendOption(nil, order, commentOption, add.File)
	options = appendOption(options, order, userAppl, add.Program)
	head := order.AppendUint32(nil, byteOrderMagic)
	head = order.AppendUint16(head, 1) // version 1.0
	head = order.AppendUint16(head, 0)
	head = order.AppendUint64(head, unknownLength)
	if err := writeBlock(w, sectionHeader, head, nothing, 0, append(options, 0, 0, 0, 0)); err != nil {
		return err
	}
	l := f.legacy
	head = order.AppendUint16(nil, uint16(l.link.kind))
	head = order.AppendUint16(head, 0)
	options = appendOption(nil, order, resolution, string([]byte{l.resolution}))
	if l.fcsLength != 0 {
		options = appendOption(options, order, fcsLength, string([]byte{l.fcsLength * 8}))
	}
	head = order.AppendUint32(head, l.snapLength)
	if err := writeBlock(w, interfaceBlock, head, nothing, 0, append(options, 0, 0, 0, 0)); err != nil {
		return err
	}
	return f.convertPackets(w, add)
}

func (f *File) convertPackets(w *bufio.Writer, add Comments) error {
	r, err := f.legacyReader()
	if err != nil {
		return err
	}
	order := binary.LittleEndian
	var rec legacyRecord
	for number := int64(1); ; number++ {
		switch err := r.next(&rec); {
		case errors.Is(err, io.EOF), errors.As(err, new(*Damage)):
			return nil
		case err != nil:
			return err
		}
		var options []byte
		if comment := add.Packet(number); comment != "" {
			options = append(appendOption(nil, order, commentOption, comment), 0, 0, 0, 0)
		}
		head := order.AppendUint32(nil, 0) // the interface
		head = order.AppendUint32(head, uint32(rec.time>>32))
		head = order.AppendUint32(head, uint32(rec.time))
		head = order.AppendUint32(head, rec.captured)
		head = order.AppendUint32(head, rec.wire)
		if err := writeBlock(w, enhancedPacket, head, r.r, int64(rec.captured), options); err != nil {
			return err
		}
	}
}

// writeBlock writes a block with some bytes of data between its head and its options.
func writeBlock(w *bufio.Writer, kind uint32, head []byte, data io.Reader, size int64, options []byte) error {
	order := binary.LittleEndian
	length := uint32(minBlock + int64(len(head)) + padded(size) + int64(len(options)))
	begin := order.AppendUint32(order.AppendUint32(nil, kind), length)
	_, _ = w.Write(append(begin, head...)) // the writer keeps its error
	if _, err := io.CopyN(w, data, size); err != nil {
		return readError(err)
	}
	end := append(make([]byte, padded(size)-size), options...)
	_, err := w.Write(order.AppendUint32(end, length))
	return err
}
