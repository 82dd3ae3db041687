// Package symbols names the functions of ELF files that it does not trust.
//
// [Lookup] reads a file piece by piece: it believes no size and no count of it, keeps a few kilobytes, and gives up at
// a deadline. [Helper] runs it in a process without privileges.
package symbols

import (
	"errors"
	"io"
	"time"
)

// Limits on what is read of a file.
const (
	// MaxOffsets is the number of offsets of one look-up.
	MaxOffsets = 64
	// MaxFile is the size up to which a file is read.
	MaxFile = 4 << 30

	maxName     = 1 << 10   // bytes of the name of a function or source file
	maxSymbols  = 4 << 20   // entries of a symbol table
	maxTable    = 256 << 20 // bytes of any other table
	maxSections = 4096
	maxSegments = 256
	maxSteps    = 1 << 17 // entries of the line table of one function
)

// Kind says how a function was found.
type Kind uint8

// The kinds of a [Name].
const (
	Unnamed    Kind = iota // the file has no name for it
	Function               // by the table of the Go runtime: Text is NAME (FILE:LINE)
	Symbol                 // by a symbol: Text is NAME+0xOFFSET
	Unresolved             // the name is too long, or the file is damaged there
)

// Name is what a file says about an offset in it.
type Name struct {
	Kind    Kind
	Text    string // arbitrary bytes
	Address uint64 // in the file, as addr2line(1) expects; the offset if no segment contains it
}

// Errors of a look-up.
var (
	errDamaged = errors.New("damaged")
	errLarge   = errors.New("too large")
	errSlow    = errors.New("too slow")
)

// Lookup names the functions at offsets of a file of this size. An error means that nothing is known about any of them:
// the file is damaged or too large, or the look-up takes until the deadline. A file that is no ELF file has no names.
func Lookup(r io.ReaderAt, size int64, offsets []uint64, deadline time.Time) ([]Name, error) {
	if size > MaxFile || len(offsets) > MaxOffsets {
		return nil, errLarge
	}
	names := make([]Name, len(offsets))
	for i, offset := range offsets {
		names[i].Address = offset
	}
	f, err := openELF(&source{r: r, size: uint64(size), deadline: deadline})
	if err != nil || f == nil {
		return names, err
	}
	var wanted []int
	for i, offset := range offsets {
		if address, ok := f.address(offset); ok {
			names[i].Address = address
			wanted = append(wanted, i)
		}
	}
	return names, f.name(names, wanted)
}

// name names the wanted ones of names.
func (f *elfFile) name(names []Name, wanted []int) error {
	failed := f.nameGo(names, wanted)
	if errors.Is(failed, errSlow) {
		return failed
	}
	for _, s := range []*symbolTable{f.symbols, f.dynamic} {
		if s == nil {
			continue
		}
		if err := s.find(names, wanted); err != nil {
			return err
		}
	}
	for _, i := range wanted {
		if names[i].Kind == Unnamed && failed != nil {
			names[i].Kind = Unresolved
		}
	}
	return nil
}

// nameGo names functions by the table of the Go runtime, if there is one.
func (f *elfFile) nameGo(names []Name, wanted []int) error {
	t, err := f.goTable()
	if err != nil || t == nil {
		return err
	}
	for _, i := range wanted {
		text, err := t.lookup(names[i].Address)
		if errors.Is(err, errSlow) {
			return err
		}
		switch {
		case err != nil:
			names[i].Kind = Unresolved
		case text != "":
			names[i].Kind, names[i].Text = Function, text
		}
	}
	return nil
}
