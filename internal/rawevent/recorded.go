package rawevent

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/closetrace/closetrace/internal/events"
)

// Layout returns the layout of the records that this build's kernel side writes, by the names of bpf/event.h. It is
// that of the Go type that is generated from the object's BTF.
func Layout() []events.Field {
	return appendFields(nil, reflect.TypeFor[event](), 0)
}

func appendFields(all []events.Field, t reflect.Type, at int) []events.Field {
	for i := range t.NumField() {
		f := t.Field(i)
		offset := at + int(f.Offset)
		switch {
		case f.Name == "_":
		case f.Type.Kind() == reflect.Struct:
			all = appendFields(all, f.Type, offset)
		default:
			all = append(all, events.Field{
				Name: cName(f.Name), Offset: offset, Size: int(f.Type.Size()), Signed: f.Type.Kind() == reflect.Int32,
			})
		}
	}
	return all
}

// cName returns the name in C of a field of the generated type.
func cName(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Recorded returns a function that decodes records of a layout, which may be that of another version: fields that it
// lacks are 0, and those that this version does not know are ignored. It names numbers by the functions.
func Recorded(
	layout []events.Field, syscall func(number int32, compat bool) string, resetReason func(uint32) string,
) (func([]byte, *events.Event) error, error) {
	d := Decoder{Syscall: syscall, ResetReason: resetReason}
	own := Layout()
	if slices.Equal(own, layout) {
		return d.Decode, nil
	}
	moves, err := movesOf(layout, own)
	if err != nil {
		return nil, err
	}
	record := make([]byte, recordSize)
	return func(raw []byte, ev *events.Event) error {
		clear(record)
		for _, m := range moves {
			m.move(raw, record)
		}
		return d.Decode(record, ev)
	}, nil
}

// move is a field of another layout and its place in that of this version.
type move struct{ from, to events.Field }

func movesOf(layout, own []events.Field) (moves []move, err error) {
	for _, to := range own {
		i := slices.IndexFunc(layout, func(f events.Field) bool { return f.Name == to.Name })
		if i < 0 {
			continue
		}
		from := layout[i]
		if from.Offset < 0 || from.Size <= 0 || from.Offset > 1<<16 || from.Size > 1<<10 ||
			from.Size != to.Size && max(from.Size, to.Size) > 8 {
			return nil, fmt.Errorf("its records have a field %s of %d bytes at %d, which cannot be read",
				from.Name, from.Size, from.Offset)
		}
		moves = append(moves, move{from, to})
	}
	return moves, nil
}

// move copies a field. A number that is too large for its place becomes the highest that fits.
func (m move) move(raw, record []byte) {
	if len(raw) < m.from.Offset+m.from.Size {
		return
	}
	from, to := raw[m.from.Offset:][:m.from.Size], record[m.to.Offset:][:m.to.Size]
	if len(from) == len(to) {
		copy(to, from)
		return
	}
	var word [8]byte
	if m.from.Signed && from[len(from)-1]&0x80 != 0 {
		word = [8]byte{255, 255, 255, 255, 255, 255, 255, 255}
	}
	copy(word[:], from)
	if bits := 8 * len(to); bits < 64 && !m.from.Signed {
		binary.LittleEndian.PutUint64(word[:], min(binary.LittleEndian.Uint64(word[:]), 1<<bits-1))
	}
	copy(to, word[:])
}
