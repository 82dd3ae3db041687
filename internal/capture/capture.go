// Package capture reads packet captures, pcap and pcapng: it finds the FINs and RSTs in them, and copies a capture with
// comments on packets. All but the comments is copied as it is, also blocks and options that are not known here.
//
// No length in a file is trusted, and memory does not depend on what a file says.
package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"

	"github.com/closetrace/closetrace/internal/hint"
)

// File is a capture.
type File struct {
	name string
	from io.ReaderAt
	size int64
	// legacy is the format of a pcap file; nil: pcapng.
	legacy *legacy
}

// Read returns the capture in a file of some size. An error is of kind [hint.Usage].
func Read(name string, from io.ReaderAt, size int64) (*File, error) {
	begin := make([]byte, legacyHeader)
	n, err := from.ReadAt(begin, 0)
	if n == 0 && size > 0 && err != nil {
		return nil, hint.New(hint.Usage, err.Error(), "name a capture of tcpdump, dumpcap or Wireshark")
	}
	begin = begin[:min(int64(n), size)]
	f := &File{name: name, from: from, size: size}
	switch what := formatOf(begin); what {
	case isPcapng:
		return f, nil
	case isPcap:
		f.legacy, err = readLegacy(begin)
		if err != nil {
			return nil, hint.New(hint.Usage, name+" "+err.Error(), convertFirst)
		}
		return f, nil
	case isEmpty:
		return nil, hint.New(hint.Usage, name+" is empty", "name a capture of tcpdump, dumpcap or Wireshark")
	case isCompressed:
		return nil, hint.New(hint.Usage, name+" is compressed", "decompress it first, with "+decompressors[string(begin[:2])])
	case isModified:
		return nil, hint.New(hint.Usage, name+" is a modified pcap file", convertFirst)
	}
	return nil, hint.New(hint.Usage, name+" is neither pcap nor pcapng", convertFirst)
}

const convertFirst = "if Wireshark reads it, editcap -F pcapng OLD NEW converts it"

// format is what the first bytes of a file say.
type format int

const (
	isUnknown format = iota
	isEmpty
	isPcapng
	isPcap
	isModified // by Alexey Kuznetsov's patch: longer headers of packets
	isCompressed
)

// decompressors are the programs that decompress a file, by its first two bytes. They keep it.
var decompressors = map[string]string{
	"\x1f\x8b": "gunzip -k", "\x28\xb5": "unzstd", "\x04\x22": "unlz4", "\xfd7": "unxz -k", "BZ": "bunzip2 -k",
}

func formatOf(begin []byte) format {
	if len(begin) == 0 {
		return isEmpty
	}
	if len(begin) < 4 {
		return isUnknown
	}
	switch m := [4]byte(begin); m {
	case [4]byte{0x0a, 0x0d, 0x0d, 0x0a}:
		return isPcapng
	case [4]byte{0xa1, 0xb2, 0xcd, 0x34}, [4]byte{0x34, 0xcd, 0xb2, 0xa1}:
		return isModified
	}
	if decompressors[string(begin[:2])] != "" {
		return isCompressed
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if m := order.Uint32(begin); m == microseconds || m == nanoseconds {
			return isPcap
		}
	}
	return isUnknown
}

// Name returns the name of the file.
func (f *File) Name() string { return f.name }

// Contents says what was found in a capture.
type Contents struct {
	Packets int64 // as Wireshark numbers them, from 1
	// Cut is the number of TCP packets that were captured only up to before their flags.
	Cut int64
	// Unread is the number of packets that were not looked into, by link type; -1: of an interface that is not described.
	Unread map[int]int64
	// Damage says from where on the file cannot be read; nil: it is whole.
	Damage *Damage
	// sectionLengths: a section says its length.
	sectionLengths bool
}

// end keeps the damage that ends a scan, and returns any other error but that of the end of the file.
func (c *Contents) end(err error) error {
	if errors.As(err, &c.Damage) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Damage is the place from which a capture cannot be read.
type Damage struct {
	At   int64 // offset in the file
	What string
}

func (d *Damage) Error() string { return fmt.Sprintf("%s at byte %d", d.What, d.At) }

// Scan calls found for each FIN and RST, in the order of the file. An error is that of reading the file.
func (f *File) Scan(found func(*Segment)) (*Contents, error) {
	c := &Contents{Unread: map[int]int64{}}
	p := &packets{contents: c, found: found}
	var err error
	if f.legacy != nil {
		err = f.scanLegacy(p)
	} else {
		err = f.scanBlocks(p)
	}
	return c, err
}

// bufferSize is how much of a file is in memory. Larger packets are copied in pieces.
const bufferSize = 256 << 10

// lookInto is how much of a packet is looked at: all headers up to TCP fit in it, unless they are absurd.
const lookInto = 4 << 10

func (f *File) reader() *bufio.Reader {
	return bufio.NewReaderSize(io.NewSectionReader(f.from, 0, f.size), int(min(bufferSize, f.size)))
}

// packets looks into the packets of a scan.
type packets struct {
	contents *Contents
	found    func(*Segment)
	segment  Segment // reused
}

// frame is a packet of a capture.
type frame struct {
	link        *link  // nil: the interface is not described
	time        uint64 // in units of the interface
	wire        uint32 // length on the wire
	data        []byte // at most lookInto bytes
	commentable bool
}

// maxUnread limits the link types that are counted one by one.
const maxUnread = 64

func (p *packets) add(fr *frame) {
	c := p.contents
	c.Packets++
	kind := -1
	if fr.link != nil {
		kind = fr.link.kind
	}
	s := &p.segment
	*s = Segment{Packet: c.Packets, Commentable: fr.commentable}
	switch s.parse(kind, fr.data, fr.wire) {
	case parsedOther:
	case parsedUnknown:
		if _, known := c.Unread[kind]; known || len(c.Unread) < maxUnread {
			c.Unread[kind]++
		}
	case parsedCut:
		c.Cut++
	case parsedTCP:
		if s.Flags&(FIN|RST) != 0 {
			s.Time, s.HasTime = fr.link.clock(fr.time)
			s.HasTime = s.HasTime && fr.commentable // a Simple Packet Block has none
			p.found(s)
		}
	}
}

// link is what a capture says of an interface.
type link struct {
	kind   int    // LINKTYPE_
	units  uint64 // of time in a second; 0: more than fit
	offset int64  // of time, in seconds
}

// clock converts a time of an interface.
func (l *link) clock(units uint64) (time.Time, bool) {
	if l.units == 0 {
		return time.Time{}, false
	}
	seconds, rest := units/l.units, units%l.units
	high, low := bits.Mul64(rest, 1e9)
	ns, _ := bits.Div64(high, low, l.units) // rest < units, so that it fits
	const latest = 1 << 40                  // the year 36812
	if seconds > latest || l.offset > latest || l.offset < -latest {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds)+l.offset, int64(ns)), true
}
