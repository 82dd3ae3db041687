package enrich

import (
	"cmp"
	"debug/elf"
	"debug/gosym"
	"fmt"
	"slices"
	"strings"
)

// maxTable is how large a table of a file may be that is read, in bytes.
const maxTable = 256 << 20

// program is what an ELF file tells of its functions.
type program struct {
	loads     []elf.ProgHeader
	functions []elf.Symbol // by address
	lines     *gosym.Table // of Go; may be nil
}

// readProgram reads an ELF file; nil if it is none. The file is under the control
// of whoever is traced, and debug/elf and debug/gosym are not made for files that
// mean harm: what makes them panic has no names.
func readProgram(path string) (b *program) {
	defer func() {
		if recover() != nil {
			b = nil
		}
	}()
	f, err := elf.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	for _, section := range f.Sections {
		if section.Type != elf.SHT_NOBITS && section.Size > maxTable && section.Flags&elf.SHF_ALLOC == 0 {
			return nil
		}
	}
	b = &program{}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			b.loads = append(b.loads, p.ProgHeader)
		}
	}
	all, _ := f.Symbols() // a stripped file has none
	dynamic, _ := f.DynamicSymbols()
	text := uint64(0)
	for _, s := range append(all, dynamic...) {
		if s.Name == "runtime.text" {
			text = s.Value
		}
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Section != elf.SHN_UNDEF && s.Size > 0 {
			b.functions = append(b.functions, s)
		}
	}
	slices.SortStableFunc(b.functions, func(x, y elf.Symbol) int { return cmp.Compare(x.Value, y.Value) })
	b.lines = goLines(f, text, dynamic)
	return b
}

// goLines is the table that Go keeps for its own stacks, which is there also in a
// stripped file. Its addresses count from text, the symbol runtime.text. Without
// symbols that is where .text begins, unless the system's linker has put the start
// of C programs there, which comes with a section .init.
func goLines(f *elf.File, text uint64, dynamic []elf.Symbol) *gosym.Table {
	var table *elf.Section
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		if table = f.Section(name); table != nil {
			break
		}
	}
	if table == nil || table.Size > maxTable {
		return nil
	}
	data, err := table.Data()
	if err != nil {
		return nil
	}
	switch section := f.Section(".text"); {
	case text != 0:
	case f.Section(".init") != nil:
		return goLinesBy(dynamic, data)
	case section == nil:
		return nil
	default:
		text = section.Addr
	}
	return goTable(data, text)
}

// goLinesBy places the table by a function that it has, and that Go exports to C in
// every file that the system's linker has made.
func goLinesBy(dynamic []elf.Symbol, data []byte) *gosym.Table {
	const exported = "crosscall2"
	i := slices.IndexFunc(dynamic, func(s elf.Symbol) bool { return s.Name == exported && s.Section != elf.SHN_UNDEF })
	unplaced := goTable(data, 0)
	if i < 0 || unplaced == nil {
		return nil
	}
	f := unplaced.LookupFunc(exported)
	if f == nil || f.Entry > dynamic[i].Value {
		return nil
	}
	return goTable(data, dynamic[i].Value-f.Entry)
}

func goTable(data []byte, text uint64) *gosym.Table {
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, text))
	if err != nil {
		return nil
	}
	return table
}

// name is what stands at an offset of the file: the function and where it is from,
// or the address for addr2line(1).
func (b *program) name(offset uint64, path string) (name string) {
	address, ok := b.address(offset)
	if !ok {
		return fmt.Sprintf("%#x (%s)", offset, path)
	}
	defer func() {
		if recover() != nil { // as in readProgram
			name = fmt.Sprintf("%#x (%s)", address, path)
		}
	}()
	if b.lines != nil {
		if file, line, f := b.lines.PCToLine(address); f != nil {
			return fmt.Sprintf("%s (%s:%d)", f.Name, file, line)
		}
	}
	after, _ := slices.BinarySearchFunc(b.functions, address+1, func(s elf.Symbol, next uint64) int { return cmp.Compare(s.Value, next) })
	const aliases = 8 // functions that begin at the same place
	for i := after - 1; i >= max(after-aliases, 0); i-- {
		if s := b.functions[i]; address-s.Value < s.Size {
			symbol, _, _ := strings.Cut(s.Name, "@")
			return fmt.Sprintf("%s+%#x (%s)", symbol, address-s.Value, path)
		}
	}
	return fmt.Sprintf("%#x (%s)", address, path)
}

// address is what the file itself gives to what stands at an offset of it.
func (b *program) address(offset uint64) (uint64, bool) {
	for _, p := range b.loads {
		if offset >= p.Off && offset-p.Off < p.Filesz {
			return offset - p.Off + p.Vaddr, true
		}
	}
	return 0, false
}
