package test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/record"
)

// docs/record.md names every field of a record.
func TestFieldsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/record.md")
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]bool{}
	for _, of := range []any{
		events.Header{}, events.Event{}, events.Task{}, events.ContainerNames{}, record.End{}, record.Audit{},
		record.NetnsAudit{}, record.FileEnd{},
	} {
		tags(reflect.TypeOf(of), fields)
	}
	for kind := events.KindClose; kind.Valid(); kind++ {
		if !strings.Contains(string(text), "`"+kind.String()+"`") {
			t.Errorf("docs/record.md does not name the kind %s", kind)
		}
	}
	named := map[string]bool{}
	for _, word := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(string(text), -1) {
		named[word[1]] = true
	}
	for field := range fields {
		if !named[field] {
			t.Errorf("docs/record.md does not name %s", field)
		}
	}
}

func tags(of reflect.Type, into map[string]bool) {
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		if name != "-" { // of no record
			into[name] = true
		}
	}
}
