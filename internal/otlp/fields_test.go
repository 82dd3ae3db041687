package otlp

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	common "go.opentelemetry.io/proto/slim/otlp/common/v1"

	"github.com/closetrace/closetrace/internal/events"
)

// pair is an attribute, with its value as encoding/json decodes it.
type pair struct {
	name  string
	value any
}

// Each field of an ending's JSON is one attribute with the same value. They are sorted by the paths of the fields and
// stand between the attributes that are no fields.
func TestAttributesAreFields(t *testing.T) {
	e := inPod()
	cgroup := e.Cgroup
	fill(reflect.ValueOf(e).Elem(), 3)
	e.Cgroup = cgroup
	e.Stack = &events.CallStack{User: []string{"\x00\"\\\u202e\U000e0001→\xff", ""}}
	e.Evidence.Linger2 = -time.Second
	e.DurationNS = 1<<64 - 1
	fields := fieldsOf(t, e)
	fields["duration_ns"] = "18446744073709551615" // as text: integers of OTLP are signed
	fields["local_ip"] = "10.0.0.5"                // without ::ffff:
	want := []pair{{"network.transport", "tcp"}}
	for _, path := range slices.Sorted(maps.Keys(fields)) {
		name, ok := attributes[path]
		switch {
		case slices.Contains(elsewhere, path):
			continue
		case !ok:
			name = prefix + path
		}
		want = append(want, pair{name, fields[path]})
	}
	want = append(want, pair{"closetrace.workload", "shop/cart"}, pair{"closetrace.collapsed", json.Number("3")})
	var got []pair
	for _, a := range recordOf(t, nil, e).Attributes {
		got = append(got, pair{a.Key, decoded(a.Value)})
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("attributes\n%q, want\n%q", got, want)
	}
}

// An ending that is no JSON object has no record.
func TestDamagedEnding(t *testing.T) {
	whole := queuedOf(inPod())
	for end := range whole.ending {
		q := *whole
		q.ending = q.ending[:end]
		if r, err := newMapping(nil).record(&q); err == nil {
			t.Fatalf("%s has the record %v", q.ending, r)
		}
	}
}

// fieldsOf returns the fields of an ending's JSON by path.
func fieldsOf(t *testing.T, e *events.Ending) map[string]any {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(queuedOf(e).ending))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		t.Fatal(err)
	}
	all := map[string]any{}
	flatten(all, "", object)
	return all
}

func flatten(to map[string]any, within string, object map[string]any) {
	for key, value := range object {
		if inner, ok := value.(map[string]any); ok {
			flatten(to, within+key+".", inner)
		} else {
			to[within+key] = value
		}
	}
}

// decoded returns a value as encoding/json decodes it.
func decoded(value *common.AnyValue) any {
	switch v := value.Value.(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_BoolValue:
		return v.BoolValue
	case *common.AnyValue_IntValue:
		return json.Number(strconv.FormatInt(v.IntValue, 10))
	case *common.AnyValue_ArrayValue:
		all := []any{}
		for _, element := range v.ArrayValue.Values {
			all = append(all, decoded(element))
		}
		return all
	}
	return nil
}
