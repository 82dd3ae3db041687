package probe

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/rawevent"
)

// Package rawevent decodes the records that the BPF object of this architecture writes.
func TestRawEventsAreThoseOfTheObject(t *testing.T) {
	want := fieldsOf(reflect.TypeFor[bpfEvent](), 0)
	var got []events.Field
	for _, f := range rawevent.Layout() {
		f.Name = strings.ReplaceAll(f.Name, "_", "")
		got = append(got, f)
	}
	if len(want) < 50 || !slices.Equal(got, want) {
		t.Errorf("internal/rawevent/event.go has\n%v\nand the object\n%v\nmake generate writes both", got, want)
	}
}

// fieldsOf returns the fields of a struct and of those in it. Their names are in lower case, without "_".
func fieldsOf(t reflect.Type, at int) (all []events.Field) {
	for i := range t.NumField() {
		switch f := t.Field(i); {
		case f.Name == "_":
		case f.Type.Kind() == reflect.Struct:
			all = append(all, fieldsOf(f.Type, at+int(f.Offset))...)
		default:
			all = append(all, events.Field{
				Name: strings.ToLower(f.Name), Offset: at + int(f.Offset), Size: int(f.Type.Size()),
				Signed: f.Type.Kind() == reflect.Int32,
			})
		}
	}
	return all
}
