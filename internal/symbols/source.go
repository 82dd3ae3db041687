package symbols

import (
	"bytes"
	"io"
	"time"
)

// source reads a file that may change or be shortened at any time.
type source struct {
	r        io.ReaderAt
	size     uint64 // beyond which nothing is read
	deadline time.Time
}

// read fills b from an offset.
func (s *source) read(b []byte, offset uint64) error {
	if offset > s.size || uint64(len(b)) > s.size-offset {
		return errDamaged
	}
	if time.Now().After(s.deadline) {
		return errSlow
	}
	if n, _ := s.r.ReadAt(b, int64(offset)); n < len(b) {
		return errDamaged
	}
	return nil
}

// table is a part of a file, of which it keeps a window.
type table struct {
	s          *source
	base, size uint64
	window     []byte // what was read last
	at         uint64 // where, in the table
}

// Sizes of a window, in bytes: for a scan, and for reads all over the table.
const (
	scanWindow   = 64 << 10
	lookupWindow = 4 << 10
)

// newTable returns a table of at most limit bytes in a file.
func newTable(s *source, base, size, limit uint64, window int) (*table, error) {
	switch {
	case base > s.size || size > s.size-base:
		return nil, errDamaged
	case size > limit:
		return nil, errLarge
	}
	return &table{s: s, base: base, size: size, window: make([]byte, 0, window)}, nil
}

// from returns the rest of a table, with its own window.
func (t *table) from(offset uint64) (*table, error) {
	if offset > t.size {
		return nil, errDamaged
	}
	return newTable(t.s, t.base+offset, t.size-offset, t.size, lookupWindow)
}

// bytes returns n bytes at an offset. They are valid until the next call. n is at most the size of a window.
func (t *table) bytes(offset uint64, n int) ([]byte, error) {
	if offset > t.size || uint64(n) > t.size-offset {
		return nil, errDamaged
	}
	if offset < t.at || offset+uint64(n) > t.at+uint64(len(t.window)) {
		if err := t.load(offset); err != nil {
			return nil, err
		}
	}
	return t.window[offset-t.at:][:n], nil
}

// load reads a window that begins at an offset.
func (t *table) load(offset uint64) error {
	t.at, t.window = offset, t.window[:min(uint64(cap(t.window)), t.size-offset)]
	err := t.s.read(t.window, t.base+offset)
	if err != nil {
		t.window = t.window[:0]
	}
	return err
}

// text returns the string that begins at an offset. An error means that it has no end, or a distant one.
func (t *table) text(offset uint64) (string, error) {
	if offset >= t.size {
		return "", errDamaged
	}
	b, err := t.bytes(offset, int(min(maxName+1, t.size-offset)))
	if err != nil {
		return "", err
	}
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return "", errDamaged
	}
	return string(b[:end]), nil
}

// places returns where a string ends a name, at most limit places. A linker may let a name be the end of another one.
func (t *table) places(name string, limit int) (all []uint64, err error) {
	ended := append([]byte(name), 0)
	for at := uint64(0); at < t.size; {
		if err := t.load(at); err != nil {
			return nil, err
		}
		for i := 0; ; i++ {
			next := bytes.Index(t.window[i:], ended)
			if next < 0 {
				break
			}
			i += next
			if all = append(all, at+uint64(i)); len(all) == limit {
				return all, nil
			}
		}
		if len(t.window) < cap(t.window) {
			break // the last one
		}
		at += uint64(len(t.window) - len(ended) + 1)
	}
	return all, nil
}
