package symbols

import (
	"bytes"
	"cmp"
	"debug/elf"
	"debug/gosym"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// section is a section of a made-up file. Its size may be a lie.
type section struct {
	name    string
	kind    elf.SectionType
	flags   elf.SectionFlag
	address uint64
	data    []byte
	size    uint64 // 0: of the data
	link    uint32
}

// madeUp returns an ELF file whose first segment is the whole of it, at 0x400000.
func madeUp(sections ...section) []byte {
	all := append([]section{{}}, sections...)
	names := []byte{0}
	all = append(all, section{name: ".shstrtab", kind: elf.SHT_STRTAB})
	starts := make([]uint32, len(all))
	for i, s := range all {
		starts[i] = uint32(len(names))
		names = append(append(names, s.name...), 0)
	}
	all[len(all)-1].data = names
	file := make([]byte, layout64.header+layout64.segment)
	var headers []byte
	for i, s := range all {
		h := make([]byte, layout64.section)
		at := uint64(len(file))
		file = append(file, s.data...)
		order.PutUint32(h, starts[i])
		order.PutUint32(h[4:], uint32(s.kind))
		order.PutUint32(h[layout64.sLink:], s.link)
		for j, v := range []uint64{uint64(s.flags), s.address, at, cmp.Or(s.size, uint64(len(s.data)))} {
			order.PutUint64(h[8+8*j:], v)
		}
		headers = append(headers, h...)
	}
	at := uint64(len(file))
	file = append(file, headers...)
	copy(file, elf.ELFMAG+"\x02\x01\x01")
	order.PutUint64(file[layout64.phoff:], uint64(layout64.header))
	order.PutUint64(file[layout64.shoff:], at)
	for i, v := range []int{layout64.segment, 1, layout64.section, len(all), len(all) - 1} {
		order.PutUint16(file[layout64.phentsize+2*i:], uint16(v))
	}
	segment := file[layout64.header:]
	order.PutUint32(segment, uint32(elf.PT_LOAD))
	order.PutUint64(segment[layout64.pAddress:], 0x400000)
	order.PutUint64(segment[layout64.pSize:], 1<<40)
	return file
}

// functions returns n symbols of functions, with one name, that cover all of the segment.
func functions(n int) []byte {
	s := make([]byte, layout64.symbol)
	order.PutUint32(s, 1)
	s[layout64.symbolInfo] = byte(elf.STT_FUNC)
	order.PutUint16(s[layout64.symbolIndex:], 1)
	order.PutUint64(s[layout64.symbolValue:], 0x400000)
	order.PutUint64(s[layout64.symbolSz:], 1<<40)
	return append(make([]byte, layout64.symbol), bytes.Repeat(s, n)...)
}

// withNames returns a file with n symbols that share one name.
func withNames(n int, names string) []byte {
	return madeUp(
		section{name: ".symtab", kind: elf.SHT_SYMTAB, data: functions(n), link: 2},
		section{name: ".strtab", kind: elf.SHT_STRTAB, data: []byte(names)},
	)
}

// claiming returns a file with a table of Go's lines that claims to have n functions.
func claiming(n uint64) []byte {
	table := append(order.AppendUint32(nil, go120), 0, 0, 1, 8)
	for _, v := range []uint64{n, 1, 0x400000, 80, 80, 80, 80, 80} {
		table = order.AppendUint64(table, v)
	}
	return madeUp(
		section{name: ".gopclntab", kind: elf.SHT_PROGBITS, flags: elf.SHF_ALLOC, data: append(table, make([]byte, 64)...)},
		section{name: ".text", kind: elf.SHT_PROGBITS, address: 0x400000, data: make([]byte, 64)},
	)
}

// look looks up some offsets, and returns how many bytes that took.
func look(r io.ReaderAt, size int64, deadline time.Time) (names []Name, allocated uint64, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	names, err = Lookup(r, size, []uint64{0, 4096, 5000, 1 << 30, 1 << 63}, deadline)
	runtime.ReadMemStats(&after)
	return names, after.TotalAlloc - before.TotalAlloc, err
}

// maxAllocated bounds what a look-up of few offsets allocates, whatever the file is.
const maxAllocated = 4 << 20

// A file that means harm costs little memory and time, and names nothing.
func TestHostileFiles(t *testing.T) {
	for name, tt := range map[string]struct {
		file []byte
		err  error // else the kind of the name at offset 4096
		kind Kind
	}{
		"honest":              {file: withNames(1, "\x00closes\x00"), kind: Symbol},
		"4,294,967,295 lines": {file: claiming(1<<32 - 1), kind: Unresolved},
		"2^63 lines":          {file: claiming(1 << 63), kind: Unnamed},
		"3 lines":             {file: claiming(3), kind: Unnamed},
		"one name of 10 MB":   {file: withNames(1000, "\x00"+strings.Repeat("A", 10<<20)+"\x00"), kind: Unresolved},
		"a name without end":  {file: withNames(1000, "\x00"+strings.Repeat("A", 1<<20)), kind: Unresolved},
		"a name of 1,024 B":   {file: withNames(1, "\x00"+strings.Repeat("A", 1024)+"\x00"), kind: Symbol},
		"a name of 1,025 B":   {file: withNames(1, "\x00"+strings.Repeat("A", 1025)+"\x00"), kind: Unresolved},
		"no names":            {file: withNames(1, "\x00"), kind: Unresolved},
		"loaded symbols larger than the file": {file: madeUp(
			section{name: ".symtab", kind: elf.SHT_SYMTAB, flags: elf.SHF_ALLOC, data: functions(1), size: 48 << 20, link: 2},
			section{name: ".strtab", kind: elf.SHT_STRTAB, data: []byte("\x00a\x00")},
		), err: errDamaged},
		"too many symbols": {file: madeUp(
			section{name: ".symtab", kind: elf.SHT_SYMTAB, data: functions(1), size: 24 * (maxSymbols + 1), link: 2},
			section{name: ".strtab", kind: elf.SHT_STRTAB, data: []byte("\x00a\x00")},
		), err: errLarge},
		"symbols without names": {file: madeUp(
			section{name: ".symtab", kind: elf.SHT_SYMTAB, data: functions(1), link: 99},
		), err: errDamaged},
		"empty": {kind: Unnamed}, "a script": {file: []byte("#!/bin/sh\n" + strings.Repeat("\n", 100)), kind: Unnamed},
		"only a head": {file: append([]byte(elf.ELFMAG+"\x02\x01"), bytes.Repeat([]byte{0xff}, 4096)...), err: errLarge},
	} {
		t.Run(name, func(t *testing.T) {
			names, allocated, err := look(bytes.NewReader(tt.file), int64(len(tt.file)), time.Now().Add(time.Minute))
			if !errors.Is(err, tt.err) || err == nil && names[1].Kind != tt.kind {
				t.Errorf("%v, error %v; want kind %d, error %v", names, err, tt.kind, tt.err)
			}
			if allocated > maxAllocated {
				t.Errorf("%d kB allocated", allocated>>10)
			}
		})
	}
}

// shrinking is a file of which less is left with each read.
type shrinking struct {
	io.ReaderAt
	left *int
}

func (s shrinking) ReadAt(b []byte, offset int64) (int, error) {
	if *s.left--; *s.left < 0 {
		return 0, io.EOF
	}
	return s.ReaderAt.ReadAt(b, offset)
}

// A file that is shortened at any moment is an error, or has names that were read before.
func TestTruncationWhileReading(t *testing.T) {
	for _, file := range [][]byte{withNames(5000, "\x00closes\x00"), claiming(3)} {
		for reads := 0; ; reads++ {
			left := reads
			_, _, err := look(shrinking{bytes.NewReader(file), &left}, int64(len(file)), time.Now().Add(time.Minute))
			if err == nil && left > 0 {
				break // more than it needs
			}
			if err != nil && !errors.Is(err, errDamaged) || reads > 100 {
				t.Fatalf("after %d reads: %v", reads, err)
			}
		}
	}
}

// slow is a file that takes its time.
type slow struct{ io.ReaderAt }

func (s slow) ReadAt(b []byte, offset int64) (int, error) {
	time.Sleep(time.Millisecond)
	return s.ReaderAt.ReadAt(b, offset)
}

// A look-up ends at its deadline.
func TestDeadline(t *testing.T) {
	file := withNames(500000, "\x00closes\x00")
	_, _, err := look(slow{bytes.NewReader(file)}, int64(len(file)), time.Now().Add(10*time.Millisecond))
	if !errors.Is(err, errSlow) {
		t.Errorf("got %v", err)
	}
}

// The names are those of the standard library, which trusts a file: in a program of 64 bits, and one of 32 bits.
func TestAgainstStandardLibrary(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{self}
	for _, arch := range []string{"386", "arm64"} {
		path := filepath.Join(t.TempDir(), arch)
		build := exec.Command("go", "build", "-o", path, "../enrich/testdata/tells")
		build.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		paths = append(paths, path)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) { againstStandardLibrary(t, path) })
	}
}

func againstStandardLibrary(t *testing.T, path string) {
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := f.Section(".gopclntab").Data()
	if err != nil {
		t.Fatal(err)
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, f.Section(".text").Addr))
	if err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	info, err := open.Stat()
	if err != nil {
		t.Fatal(err)
	}
	code := slices.IndexFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 })
	p := f.Progs[code]
	compared := 0
	for i := 0; i < len(table.Funcs); i += max(1, len(table.Funcs)/200) {
		pc := table.Funcs[i].Entry + (table.Funcs[i].End-table.Funcs[i].Entry)/2
		file, line, function := table.PCToLine(pc)
		names, err := Lookup(open, info.Size(), []uint64{pc - p.Vaddr + p.Off}, time.Now().Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%s (%s:%d)", function.Name, file, line); names[0].Text != want || names[0].Address != pc {
			t.Errorf("%#x is %+v, want %s", pc, names[0], want)
		}
		compared++
	}
	if compared < 100 {
		t.Errorf("%d functions compared", compared)
	}
}

// Whatever a traced process has mapped, a look-up takes little time and memory.
func FuzzLookup(f *testing.F) {
	f.Add(claiming(3))
	f.Add(claiming(2000000))
	f.Add(claiming(1<<32 - 1))
	f.Add(withNames(3, "\x00closes\x00"))
	f.Add(withNames(3, "\x00closes"))
	f.Fuzz(func(t *testing.T, b []byte) {
		begin := time.Now()
		names, allocated, err := look(bytes.NewReader(b), int64(len(b)), begin.Add(time.Minute))
		// Other goroutines of the fuzzer allocate as well.
		if took := time.Since(begin); took > 5*time.Second || allocated > 4*maxAllocated {
			t.Errorf("%d bytes took %v and %d kB", len(b), took, allocated>>10)
		}
		for _, n := range names {
			if err == nil && len(n.Text) > maxText {
				t.Errorf("a name of %d bytes", len(n.Text))
			}
		}
	})
}

// Whatever the process that reads files answers, it is an error or names of limited size.
func FuzzAnswer(f *testing.F) {
	f.Add(appendAnswer(nil, 7, answered, []Name{{Symbol, "closes+0x1", 5}, {}}))
	f.Add(appendAnswer(nil, 0, crashed, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, status, names, err := parseAnswer(b, 2)
		if err == nil && status == answered && (len(names) != 2 || !bytes.Equal(appendAnswer(nil, id, status, names), b)) {
			t.Errorf("%q is %+v", b, names)
		}
	})
}
