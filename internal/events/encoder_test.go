package events

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

// What an encoder remembers of other endings must not show: after the same ending, and after one that differs from it
// in a single field, a line is the one of an encoder that remembers nothing.
func TestEncoderRemembersNothingWrong(t *testing.T) {
	c := NewEncoder()
	check := func(e *Ending, what string) {
		t.Helper()
		if got, want := string(c.Append(nil, e)), string(e.AppendJSON(nil)); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", what, got, want)
		}
	}
	e := sample()
	lines := map[string]bool{string(e.AppendJSON(nil)): true}
	names := append(fields(reflect.TypeFor[Ending]()),
		"Actor.PID", "Actor.TID", "Actor.UID", "Actor.Comm", "Owner.PID", "Owner.Comm")
	for _, name := range names {
		check(&e, "before "+name)
		other := sample()
		change(t, &other, name)
		check(&other, name)
		check(&other, name+" again")
		if line := string(other.AppendJSON(nil)); lines[line] && name != "Title" && name != "Service" {
			t.Errorf("%s is not in the line", name)
		} else {
			lines[line] = true
		}
	}
	check(&Ending{}, "nothing")
}

func TestEncoderTime(t *testing.T) {
	c := NewEncoder()
	for _, ns := range []int64{
		0, 1, 999_999_999, 100_000_000, 1_000_000_000, 1_000_000_001, -1, -1_000_000_000, 1<<62 + 7,
	} {
		for range 2 {
			e := Ending{Time: time.Unix(0, ns)}
			want := `{"schema_version":1,"time":"` + e.Time.UTC().Format(time.RFC3339Nano) + `","mono_ns":0`
			if got := string(c.Append(nil, &e)); len(got) < len(want) || got[:len(want)] != want {
				t.Errorf("%d ns: got %s, want %s", ns, got, want)
			}
		}
	}
}

func fields(of reflect.Type) (names []string) {
	for i := range of.NumField() {
		names = append(names, of.Field(i).Name)
	}
	return names
}

// change gives a field, or one of what it points to, another value.
func change(t *testing.T, e *Ending, name string) {
	t.Helper()
	v := reflect.ValueOf(e).Elem()
	var pointed, field string
	if _, err := fmt.Sscanf(name, "%5s.%s", &pointed, &field); err == nil {
		v = v.FieldByName(pointed).Elem()
		name = field
	}
	f := v.FieldByName(name)
	switch f.Kind() {
	case reflect.String:
		f.SetString(f.String() + "!")
	case reflect.Bool:
		f.SetBool(!f.Bool())
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		f.SetUint(f.Uint() + 1)
	case reflect.Int:
		f.SetInt(f.Int() + 1)
	case reflect.Pointer:
		if f.IsNil() {
			f.Set(reflect.New(f.Type().Elem()))
		} else {
			f.SetZero()
		}
	case reflect.Struct:
		f.SetZero()
	default:
		t.Fatalf("%s is a %s", name, f.Kind())
	}
}
