package symbols

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// elfFile is what a look-up needs of an ELF file.
type elfFile struct {
	s                   *source
	l                   *layout
	loads               []load
	symbols, dynamic    *symbolTable // nil: none
	text, init, pclntab *header      // sections; nil: none
}

// load is a segment that is loaded into memory.
type load struct{ offset, address, size uint64 }

// header is the header of a section.
type header struct {
	name, link                  uint32
	kind                        elf.SectionType
	address, offset, size, each uint64
}

// layout is where the fields of a little-endian ELF file are: elf(5).
type layout struct {
	word                                           int // bytes of an address
	header, segment, section, symbol               int // sizes
	phoff, shoff, phentsize                        int // of the file
	pOffset, pAddress, pSize                       int // of a segment
	sAddress, sOffset, sSize, sLink, sEach         int // of a section
	symbolInfo, symbolIndex, symbolValue, symbolSz int // of a symbol
}

var (
	layout64 = layout{
		word: 8, header: 64, segment: 56, section: 64, symbol: 24,
		phoff: 32, shoff: 40, phentsize: 54, pOffset: 8, pAddress: 16, pSize: 32,
		sAddress: 16, sOffset: 24, sSize: 32, sLink: 40, sEach: 56,
		symbolInfo: 4, symbolIndex: 6, symbolValue: 8, symbolSz: 16,
	}
	layout32 = layout{
		word: 4, header: 52, segment: 32, section: 40, symbol: 16,
		phoff: 28, shoff: 32, phentsize: 42, pOffset: 4, pAddress: 8, pSize: 16,
		sAddress: 12, sOffset: 16, sSize: 20, sLink: 24, sEach: 36,
		symbolInfo: 12, symbolIndex: 14, symbolValue: 4, symbolSz: 8,
	}
)

var order = binary.LittleEndian

// address reads an address or size.
func (l *layout) address(b []byte, at int) uint64 {
	if l.word == 4 {
		return uint64(order.Uint32(b[at:]))
	}
	return order.Uint64(b[at:])
}

// openELF reads the headers of a file. It returns nil if the file is no ELF file of this machine's byte order.
func openELF(s *source) (*elfFile, error) {
	ident := make([]byte, layout64.header)
	if s.size < uint64(layout32.header) {
		return nil, nil
	}
	head := ident[:min(uint64(len(ident)), s.size)]
	if err := s.read(head, 0); err != nil {
		return nil, err
	}
	f := &elfFile{s: s}
	switch {
	case !strings.HasPrefix(string(head), elf.ELFMAG) || elf.Data(head[elf.EI_DATA]) != elf.ELFDATA2LSB:
		return nil, nil
	case elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS64 && len(head) == layout64.header:
		f.l = &layout64
	case elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS32:
		f.l = &layout32
	default:
		return nil, nil
	}
	if err := f.readSegments(head); err != nil {
		return nil, err
	}
	return f, f.readSections(head)
}

func (f *elfFile) readSegments(head []byte) error {
	l := f.l
	each, n := order.Uint16(head[l.phentsize:]), order.Uint16(head[l.phentsize+2:])
	t, err := f.rows(l.address(head, l.phoff), int(each), int(n), l.segment, maxSegments)
	for i := range int(n) {
		if err != nil {
			break
		}
		var b []byte
		if b, err = t.bytes(uint64(i)*uint64(each), l.segment); err == nil && elf.ProgType(order.Uint32(b)) == elf.PT_LOAD {
			f.loads = append(f.loads, load{l.address(b, l.pOffset), l.address(b, l.pAddress), l.address(b, l.pSize)})
		}
	}
	return err
}

// rows returns the table of n headers, which have at least the size need.
func (f *elfFile) rows(offset uint64, each, n, need, limit int) (*table, error) {
	switch {
	case n > limit:
		return nil, errLarge
	case n > 0 && each < need:
		return nil, errDamaged
	}
	return newTable(f.s, offset, uint64(each)*uint64(n), maxTable, scanWindow)
}

// readSections finds the sections that a look-up needs.
func (f *elfFile) readSections(head []byte) error {
	l := f.l
	at := l.phentsize + 4 // e_shentsize, e_shnum, e_shstrndx
	each, n, names := int(order.Uint16(head[at:])), int(order.Uint16(head[at+2:])), int(order.Uint16(head[at+4:]))
	if l.address(head, l.shoff) == 0 || n == 0 {
		return nil
	}
	t, err := f.rows(l.address(head, l.shoff), each, n, l.section, maxSections)
	if err != nil {
		return err
	}
	row := func(i int) (*header, error) {
		if i >= n {
			return nil, errDamaged
		}
		b, err := t.bytes(uint64(i)*uint64(each), l.section)
		if err != nil {
			return nil, err
		}
		return &header{
			name: order.Uint32(b), kind: elf.SectionType(order.Uint32(b[4:])), link: order.Uint32(b[l.sLink:]),
			address: l.address(b, l.sAddress), offset: l.address(b, l.sOffset), size: l.address(b, l.sSize),
			each: l.address(b, l.sEach),
		}, nil
	}
	strings, err := row(names)
	if err != nil {
		return err
	}
	text, err := newTable(f.s, strings.offset, strings.size, maxTable, lookupWindow)
	if err != nil {
		return err
	}
	for i := range n {
		h, err := row(i)
		if err == nil {
			err = f.keep(h, text, row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keep keeps a section if a look-up needs it. The first of each counts.
func (f *elfFile) keep(h *header, names *table, row func(int) (*header, error)) (err error) {
	switch {
	case h.kind == elf.SHT_SYMTAB && f.symbols == nil:
		f.symbols, err = f.newSymbols(h, row)
		return err
	case h.kind == elf.SHT_DYNSYM && f.dynamic == nil:
		f.dynamic, err = f.newSymbols(h, row)
		return err
	case h.kind == elf.SHT_NULL || h.kind == elf.SHT_NOBITS:
		return nil
	}
	name, err := names.text(uint64(h.name))
	if err != nil {
		return err
	}
	switch {
	case name == ".text" && f.text == nil:
		f.text = h
	case name == ".init" && f.init == nil:
		f.init = h
	case (name == ".gopclntab" || name == ".data.rel.ro.gopclntab") && f.pclntab == nil:
		f.pclntab = h
	}
	return nil
}

// address returns the address in the file of what is at an offset of it.
func (f *elfFile) address(offset uint64) (uint64, bool) {
	i := slices.IndexFunc(f.loads, func(l load) bool { return offset >= l.offset && offset-l.offset < l.size })
	if i < 0 {
		return 0, false
	}
	return offset - f.loads[i].offset + f.loads[i].address, true
}

// symbolTable is a symbol table and its names.
type symbolTable struct {
	l           *layout
	rows, names *table
	count       uint64
}

// symbol is an entry of a symbol table.
type symbol struct {
	name        uint32
	value, size uint64
	function    bool
}

func (f *elfFile) newSymbols(h *header, row func(int) (*header, error)) (*symbolTable, error) {
	names, err := row(int(h.link))
	if err != nil {
		return nil, err
	}
	t := &symbolTable{l: f.l, count: h.size / uint64(f.l.symbol)}
	if t.count > maxSymbols {
		return nil, errLarge
	}
	if t.rows, err = newTable(f.s, h.offset, h.size, maxTable, scanWindow); err != nil {
		return nil, err
	}
	t.names, err = newTable(f.s, names.offset, names.size, maxTable, scanWindow)
	return t, err
}

// each calls visit with the symbols that the file itself defines.
func (t *symbolTable) each(visit func(symbol)) error {
	l := t.l
	for i := range t.count {
		b, err := t.rows.bytes(i*uint64(l.symbol), l.symbol)
		if err != nil {
			return err
		}
		if elf.SectionIndex(order.Uint16(b[l.symbolIndex:])) != elf.SHN_UNDEF {
			visit(symbol{
				order.Uint32(b), l.address(b, l.symbolValue), l.address(b, l.symbolSz),
				elf.ST_TYPE(b[l.symbolInfo]) == elf.STT_FUNC,
			})
		}
	}
	return nil
}

// find names, of the wanted names, those that have none yet and that a function contains. Of several functions it
// chooses the one that begins last.
func (t *symbolTable) find(names []Name, wanted []int) error {
	if len(wanted) == 0 {
		return nil
	}
	low, high := names[wanted[0]].Address, names[wanted[0]].Address
	for _, i := range wanted {
		low, high = min(low, names[i].Address), max(high, names[i].Address)
	}
	var found [MaxOffsets]symbol
	err := t.each(func(s symbol) {
		if !s.function || s.size == 0 || s.value > high || s.value <= low && low-s.value >= s.size {
			return
		}
		for _, i := range wanted {
			if at := names[i].Address; at >= s.value && at-s.value < s.size && s.value >= found[i].value {
				found[i] = s
			}
		}
	})
	if err != nil {
		return err
	}
	for _, i := range wanted {
		if found[i].size > 0 && names[i].Kind == Unnamed {
			t.name(&names[i], found[i])
		}
	}
	return nil
}

// name names a place in a function.
func (t *symbolTable) name(n *Name, s symbol) {
	text, err := t.names.text(uint64(s.name))
	if err != nil {
		n.Kind = Unresolved
		return
	}
	text, _, _ = strings.Cut(text, "@") // the version of a dynamic symbol
	n.Kind, n.Text = Symbol, fmt.Sprintf("%s+%#x", text, n.Address-s.value)
}

// value returns the value of the last symbol with this name, 0 if there is none.
func (t *symbolTable) value(name string) (value uint64, err error) {
	const limit = 8 // of other names that end like this one
	places, err := t.names.places(name, limit)
	if err != nil || len(places) == 0 {
		return 0, err
	}
	err = t.each(func(s symbol) {
		if slices.Contains(places, uint64(s.name)) {
			value = s.value
		}
	})
	return value, err
}
