package test

import (
	"encoding/json"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// documented are the rows of docs/json.md about endings by field: its type, and
// whether it is always there.
func documented(t *testing.T) map[string]jsonField {
	t.Helper()
	text, err := os.ReadFile("../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]jsonField{}
	pattern := regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\| (\\w+) \\|.*\\| (.+) \\|$")
	endings, _, found := strings.Cut(string(text), "\n## The summary\n")
	if !found {
		t.Fatal("docs/json.md has no summary after the endings")
	}
	for _, row := range pattern.FindAllStringSubmatch(endings, -1) {
		if _, twice := fields[row[1]]; twice {
			t.Errorf("docs/json.md has %s twice", row[1])
		}
		fields[row[1]] = jsonField{row[2], row[3] == "always"}
	}
	return fields
}

type jsonField struct {
	kind   string
	always bool
}

// An ending that has all there is has the fields of docs/json.md, and one that has
// nothing those that are always there.
func TestJSONIsDocumented(t *testing.T) {
	fields := documented(t)
	least := events.Ending{
		Path:    "recv.rst",
		Cause:   "why",
		Trigger: events.TriggerSegment,
	} // and what objects have, if there are any
	least.Actor, least.Earlier, least.After = &events.Task{}, &events.Past{Path: "close"}, events.Close
	least.Stack = &events.CallStack{}
	live, most := events.NewEncoder(), filled()
	live.Begin(events.Header{Host: "db1", BootID: "1"})
	all, none := flatten(t, live.Append(nil, &most)), flat(t, least)
	for name, field := range fields {
		value, known := all[name]
		if !known {
			t.Errorf("docs/json.md has %s, which no ending has", name)
		} else if kind := kindOf(name, value); kind != field.kind {
			t.Errorf("%s is a %s; in docs/json.md a %s", name, kind, field.kind)
		}
		if _, is := none[name]; is != field.always && field.kind != "task" && field.kind != "past" && field.kind != "state" &&
			field.kind != "stack" {
			t.Errorf("%s is in every ending: %v; docs/json.md differs", name, is)
		}
	}
	for name := range all {
		if _, is := fields[name]; !is {
			t.Errorf("docs/json.md does not have %s", name)
		}
	}
}

// So do the endings of the recorded scenarios, among which each field is, and the
// triggers that docs/json.md lists.
func TestRecordedJSONIsDocumented(t *testing.T) {
	fields := documented(t)
	text, err := os.ReadFile("../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	recordedEndings(t, func(e *events.Ending) {
		has := flat(t, *e)
		for name := range has {
			seen[name] = true
			if _, is := fields[name]; !is {
				t.Errorf("%s has %s, which docs/json.md does not have", e.Path, name)
			}
		}
		for name, field := range fields {
			_, is := has[name]
			object, _, within := strings.Cut(name, ".")
			if _, there := has[object]; field.always && !is && (!within || there) {
				t.Errorf("%s has no %s", e.Path, name)
			}
		}
		if !strings.Contains(string(text), "`"+string(e.Trigger)+"`") {
			t.Errorf("docs/json.md does not name the trigger %s", e.Trigger)
		}
	})
	// Scenarios name no host and are of one, and those recorded first not which end connected. The lab asks for no
	// SIGPIPE, threads and stacks, stays below the rate limit, and /proc, cgroups and runtimes are asked for no recording.
	for _, name := range []string{
		"host", "boot_id", "connection_id", "peer_local", "earlier.host", "earlier.boot_id", "replies_left_out", "evidence.sigpipe",
		"evidence.other_holders", "actor.process", "cgroup", "actor_cgroup", "unit",
		"stack", "stack.user", "stack.kernel", "stack.unresolved", "container", "container.id", "container.runtime",
		"container.pod_uid",
		"container.name", "container.image", "container.pod", "container.namespace",
	} {
		seen[name] = true
	}
	for name := range fields {
		if !seen[name] {
			t.Errorf("no scenario has %s", name)
		}
	}
}

// kindOf is the word of docs/json.md for what a field has.
func kindOf(name string, value any) string {
	switch value.(type) {
	case float64:
		return "number"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any:
		return "array"
	}
	switch name {
	case "actor", "owner", "earlier.actor":
		return "task"
	case "earlier", "peer":
		return "past"
	}
	return name
}

// flat are the fields of an ending's JSON form, those of objects with a dot. What has
// the same form as another one has its names.
func flat(t *testing.T, e events.Ending) map[string]any {
	t.Helper()
	return flatten(t, e.AppendJSON(nil))
}

// flatten are those of the text of an ending.
func flatten(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	all := map[string]any{}
	for name, value := range v {
		all[name] = value
		object, is := value.(map[string]any)
		if !is {
			continue
		}
		name = strings.NewReplacer("owner", "actor", "peer", "earlier").Replace(name)
		for inner, value := range object {
			all[name+"."+inner] = value
		}
	}
	return all
}

// filled is an ending with something in each of its fields.
func filled() (e events.Ending) {
	fill(reflect.ValueOf(&e).Elem())
	e.Cgroup = "/kubepods/pod6fd8b3d4-2a0b-4f5e-9d0e-1f2a3b4c5d6e/" +
		"crio-0f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d/web.service"
	return e
}

func fill(v reflect.Value) {
	switch at := v.Addr().Interface().(type) {
	case *time.Time:
		*at = time.Unix(1, 0)
		return
	case *netip.AddrPort:
		*at = netip.MustParseAddrPort("10.0.0.5:443")
		return
	case *time.Duration:
		*at = time.Second
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	default:
		if v.CanInt() {
			v.SetInt(1)
		} else {
			v.SetUint(1)
		}
	}
}
