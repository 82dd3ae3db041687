package symbols

import (
	"fmt"
)

// goTable is the table that the Go runtime uses for its own stacks, which a stripped file has as well: the format of
// debug/gosym, from Go 1.2.
type goTable struct {
	version                              int
	quantum, pointer, field              uint64 // bytes: of an instruction, an address, a field of functab
	start                                uint64 // of the text, to which addresses are relative since Go 1.18
	count                                uint64 // of functions
	functab, funcdata, names, pcs        *table
	compilationUnits, files, fileStrings *table
}

// The versions of the format, and the first bytes of each.
const (
	go12  = 0xfffffffb
	go116 = 0xfffffffa
	go118 = 0xfffffff0
	go120 = 0xfffffff1
)

// goTable returns the table of a file, or nil if it has none or its place in memory is unknown.
//
// Its addresses are relative to the symbol runtime.text. Without symbols that is the start of .text, unless the
// system's linker put the startup code of C there; such a file has a section .init. There a function that Go exports to
// C gives the place.
func (f *elfFile) goTable() (*goTable, error) {
	if f.pclntab == nil {
		return nil, nil
	}
	data, err := newTable(f.s, f.pclntab.offset, f.pclntab.size, maxTable, lookupWindow)
	if err != nil {
		return nil, err
	}
	t, err := openGoTable(data)
	if err != nil || t == nil {
		return nil, err
	}
	for _, s := range []*symbolTable{f.symbols, f.dynamic} {
		if s == nil || t.start != 0 {
			continue
		}
		if t.start, err = s.value("runtime.text"); err != nil {
			return nil, err
		}
	}
	switch {
	case t.start != 0:
		return t, nil
	case f.init != nil && f.dynamic != nil:
		return t.placedBy(f.dynamic)
	case f.init != nil || f.text == nil:
		return nil, nil
	}
	t.start = f.text.address
	return t, nil
}

// placedBy places a table by a function that Go exports to C in every file that the system's linker made.
func (t *goTable) placedBy(dynamic *symbolTable) (*goTable, error) {
	const exported = "crosscall2"
	value, err := dynamic.value(exported)
	if err != nil || value == 0 {
		return nil, err
	}
	for i := range t.count {
		entry, data, err := t.function(i)
		if err != nil {
			return nil, err
		}
		name, err := t.name(data)
		if err != nil {
			return nil, err
		}
		if name != exported {
			continue
		}
		if entry > value {
			return nil, nil
		}
		t.start = value - entry
		return t, nil
	}
	return nil, nil
}

// openGoTable reads the header. It returns nil for an unknown format.
func openGoTable(data *table) (*goTable, error) {
	head, err := data.bytes(0, 8)
	if err != nil {
		return nil, err
	}
	t := &goTable{quantum: uint64(head[6]), pointer: uint64(head[7])}
	if t.pointer != 4 && t.pointer != 8 {
		return nil, errDamaged
	}
	t.field = t.pointer
	switch order.Uint32(head) {
	case go12:
		return t, t.open12(data)
	case go116:
		t.version = 16
		return t, t.open(data, 2)
	case go118, go120:
		t.version, t.field = 18, 4
		return t, t.open(data, 3)
	}
	return nil, nil
}

// open reads the header since Go 1.16. first is the number of the word with the place of the names.
func (t *goTable) open(data *table, first int) error {
	n, err := t.word(data, 0)
	if err != nil {
		return err
	}
	for i, place := range []**table{&t.names, &t.compilationUnits, &t.fileStrings, &t.pcs, &t.funcdata} {
		offset, err := t.word(data, first+i)
		if err == nil {
			*place, err = data.from(offset)
		}
		if err != nil {
			return err
		}
	}
	if t.functab, err = t.funcdata.from(0); err != nil {
		return err
	}
	return t.setCount(n)
}

// open12 reads the header before Go 1.16.
func (t *goTable) open12(data *table) error {
	n, err := t.word(data, 0)
	for _, place := range []**table{&t.names, &t.fileStrings, &t.pcs, &t.funcdata} {
		if err == nil {
			*place, err = data.from(0)
		}
	}
	if err == nil {
		t.functab, err = data.from(8 + t.pointer)
	}
	if err == nil {
		err = t.setCount(n)
	}
	if err != nil {
		return err
	}
	offset, err := t.functab.bytes((2*t.count+1)*t.field, 4)
	if err == nil {
		t.files, err = data.from(uint64(order.Uint32(offset)))
	}
	return err
}

// setCount sets the number of functions, for which the table must have room.
func (t *goTable) setCount(n uint64) error {
	t.count = uint64(uint32(n))
	if (2*t.count+1)*t.field > t.functab.size {
		return errDamaged
	}
	return nil
}

// word reads a word after the first 8 bytes.
func (t *goTable) word(data *table, i int) (uint64, error) {
	return number(data, 8+uint64(i)*t.pointer, t.pointer)
}

// number reads a number of 4 or 8 bytes.
func number(data *table, offset, size uint64) (uint64, error) {
	b, err := data.bytes(offset, int(size))
	switch {
	case err != nil:
		return 0, err
	case size == 4:
		return uint64(order.Uint32(b)), nil
	}
	return order.Uint64(b), nil
}

// entry returns where a function begins. The last one ends at the entry of number count.
func (t *goTable) entry(i uint64) (uint64, error) {
	n, err := number(t.functab, 2*i*t.field, t.field)
	return n + t.start, err
}

// function returns where a function begins, and where its data is in funcdata.
func (t *goTable) function(i uint64) (entry, data uint64, err error) {
	if entry, err = t.entry(i); err != nil {
		return 0, 0, err
	}
	data, err = number(t.functab, (2*i+1)*t.field, t.field)
	return entry, data, err
}

// lookup returns the function and the line at an address, or "" if no function contains it.
func (t *goTable) lookup(address uint64) (string, error) {
	low, high := uint64(0), t.count // the first function that begins after the address is in [low, high]
	for low < high {
		middle := low + (high-low)/2
		entry, err := t.entry(middle)
		if err != nil {
			return "", err
		}
		if entry > address {
			high = middle
		} else {
			low = middle + 1
		}
	}
	end, err := t.entry(t.count)
	if err != nil || low == 0 || address >= end {
		return "", err
	}
	entry, data, err := t.function(low - 1)
	if err != nil {
		return "", err
	}
	name, err := t.name(data)
	if err != nil {
		return "", err
	}
	file, line, err := t.line(data, entry, address)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s (%s:%d)", name, file, line), nil
}

// Fields of struct _func in the runtime, after its entry.
const (
	nameField = iota
	_
	_
	_
	fileField
	lineField
	_
	unitField
)

// value reads a field of a function.
func (t *goTable) value(data uint64, field uint64) (uint64, error) {
	entry := t.pointer
	if t.version >= 18 {
		entry = 4
	}
	b, err := t.funcdata.bytes(data, int(entry+4*(field+1)))
	if err != nil {
		return 0, err
	}
	return uint64(order.Uint32(b[entry+4*field:])), nil
}

// name returns the name of a function.
func (t *goTable) name(data uint64) (string, error) {
	offset, err := t.value(data, nameField)
	if err != nil {
		return "", err
	}
	return t.names.text(offset)
}

// line returns the file and line at an address of a function. A file without a name is "".
func (t *goTable) line(data, entry, address uint64) (file string, line int32, err error) {
	if line, err = t.step(data, lineField, entry, address); err != nil {
		return "", 0, err
	}
	index, err := t.step(data, fileField, entry, address)
	if err != nil || index < 0 || t.version == 0 && index == 0 {
		return "", line, err
	}
	files, place := t.files, uint64(index)
	if t.version > 0 {
		unit, err := t.value(data, unitField)
		if err != nil {
			return "", line, err
		}
		files, place = t.compilationUnits, uint64(uint32(unit)+uint32(index))
	}
	offset, err := number(files, 4*place, 4)
	if err != nil || offset == 0xffffffff {
		return "", line, err
	}
	file, err = t.fileStrings.text(offset)
	return file, line, err
}

// step returns the value of a table of pcs at an address, -1 if it has none: pairs of varints, by how much the value
// and the address grow.
func (t *goTable) step(data, field, entry, address uint64) (int32, error) {
	at, err := t.value(data, field)
	if err != nil {
		return 0, err
	}
	value, pc := int32(-1), entry
	for n := range maxSteps {
		delta, next, err := t.varint(at)
		if err != nil {
			return 0, err
		}
		if delta == 0 && n > 0 {
			return -1, nil
		}
		more, after, err := t.varint(next)
		if err != nil {
			return 0, err
		}
		at, value, pc = after, value+int32(delta>>1^-(delta&1)), pc+uint64(more)*t.quantum
		if address < pc {
			return value, nil
		}
	}
	return 0, errLarge
}

// varint reads a number of at most 32 bits, and returns what follows it.
func (t *goTable) varint(at uint64) (n uint32, next uint64, err error) {
	for shift := 0; shift < 35; shift += 7 {
		b, err := t.pcs.bytes(at, 1)
		if err != nil {
			return 0, 0, err
		}
		at++
		n |= uint32(b[0]&0x7f) << shift
		if b[0]&0x80 == 0 {
			return n, at, nil
		}
	}
	return 0, 0, errDamaged
}
