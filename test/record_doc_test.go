package test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/record"
)

// docs/record.md names every field of a record, and of the endings that the
// scenarios give.
func TestFieldsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/record.md")
	if err != nil {
		t.Fatal(err)
	}
	file, endings, ok := strings.Cut(string(text), "## Endings as JSON")
	if !ok {
		t.Fatal("no part about endings")
	}
	check := func(part string, fields map[string]bool) {
		t.Helper()
		named := map[string]bool{}
		for _, word := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(part, -1) {
			named[word[1]] = true
		}
		for field := range fields {
			if !named[field] {
				t.Errorf("docs/record.md does not name %s", field)
			}
		}
	}
	fields := map[string]bool{}
	for _, of := range []any{events.Header{}, events.Event{}, events.Task{}, record.End{}, record.Audit{}} {
		tags(reflect.TypeOf(of), fields)
	}
	for kind := events.KindClose; kind.Valid(); kind++ {
		if !strings.Contains(file, "`"+kind.String()+"`") {
			t.Errorf("docs/record.md does not name the kind %s", kind)
		}
	}
	check(file, fields)
	check(endings, endingFields(t))
}

func tags(of reflect.Type, into map[string]bool) {
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		into[name] = true
	}
}

// endingFields are the names of all fields in the JSON form of the endings of
// all recorded scenarios.
func endingFields(t *testing.T) map[string]bool {
	t.Helper()
	scenarios, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, sc := range scenarios {
		for _, mode := range lab.Modes {
			section, ok := sc.Section("events." + mode + ".jsonl")
			if !ok {
				continue
			}
			_, seen := replay(t, section)
			for _, s := range seen {
				keys(s.Fields, found)
			}
		}
	}
	return found
}

func keys(v map[string]any, into map[string]bool) {
	for key, value := range v {
		into[key] = true
		if below, ok := value.(map[string]any); ok {
			keys(below, into)
		}
	}
}
