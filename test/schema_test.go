package test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/logline"
	"github.com/closetrace/closetrace/internal/schema"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/why"
)

const schemaFile = "../internal/schema/ending.schema.json"

// narrowed is what the schema says about a field beyond the type that docs/json.md gives.
var narrowed = map[string]map[string]any{
	"schema_version":       {"const": events.SchemaVersion},
	"time":                 {"format": "date-time"},
	"confidence":           {"enum": []string{"observed", "inferred"}},
	"severity":             {"enum": []string{"ok", "notice", "error"}},
	"family":               {"enum": []string{"ipv4", "ipv6"}},
	"owner_by":             {"enum": []string{"call", "later-call", "earlier-call", "proc"}},
	"path":                 {"pattern": `^[a-z0-9]+(\.[a-z0-9-]+)+$`},
	"connection_id":        {"pattern": "^[0-9a-f]{16}$"},
	"local_port":           {"maximum": 65535},
	"remote_port":          {"maximum": 65535},
	"evidence.linger2_ms":  {"minimum": -1 << 31},
	"stack.unresolved":     {"minimum": 1},
	"evidence.tcp_options": {"maxItems": 40},

	"summary.schema_version": {"const": events.SchemaVersion},
	"summary.kind":           {"const": "summary"},
	"summary.time":           {"format": "date-time"},
	"summary.paths":          {"type": "object", "additionalProperties": reference("count")},
	"both_ends.clocks":       {"items": reference("clock")},
	"clock.ahead_ns":         {"minimum": math.MinInt64},
	"answer.schema_version":  {"const": events.SchemaVersion},
	"answer.kind":            {"const": "answer"},
	"answer.cause":           {"$ref": "#"},
	"answer.endings":         {"items": map[string]any{"$ref": "#"}, "minItems": 1},
	"answer.ends":            {"items": reference("end"), "minItems": 2, "maxItems": 2},
	"answer.others":          {"items": reference("other"), "maxItems": 10},
	"other.time":             {"format": "date-time"},
}

func reference(object string) map[string]any { return map[string]any{"$ref": "#/$defs/" + object} }

// The schema is written from the tables of docs/json.md: go test ./test -run TestSchemaDoc -update.
func TestSchemaDoc(t *testing.T) {
	want := schemaOf(t)
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(schema.Ending(), want) {
		t.Errorf("%s differs from docs/json.md: go test ./test -run TestSchemaDoc -update", schemaFile)
	}
	linked, err := os.ReadFile("../docs/ending.schema.json")
	if err != nil || !bytes.Equal(linked, want) {
		t.Errorf("docs/ending.schema.json is another schema: %v", err)
	}
}

// schemaOf returns the schema by the tables of docs/json.md.
func schemaOf(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]map[string]any{}
	row := regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\| (\\w+) \\| (.*) \\| (.+) \\|$")
	for _, r := range row.FindAllStringSubmatch(string(text), -1) {
		object, name, inner := strings.Cut(r[1], ".")
		if !inner {
			object, name = "", r[1]
		}
		if objects[object] == nil {
			objects[object] = map[string]any{"type": "object", "properties": map[string]any{}, "required": []string{}}
		}
		o := objects[object]
		o["properties"].(map[string]any)[name] = fieldSchema(r[1], r[2], r[3])
		if r[4] == "always" {
			o["required"] = append(o["required"].([]string), name)
		}
	}
	ending := objects[""]
	delete(objects, "")
	objects["task"], objects["past"] = objects["actor"], objects["earlier"]
	delete(objects, "actor")
	delete(objects, "earlier")
	ending["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	ending["title"] = "An ending"
	ending["description"] = "One line of closetrace -o json. Fields and words may be added without a new schema_version."
	ending["$defs"] = objects
	ending["dependentRequired"] = map[string]any{
		"owner_by": []string{"owner"}, "local": []string{"local_ip", "local_port"}, "remote": []string{"remote_ip", "remote_port"},
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(ending); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var markdownLink = regexp.MustCompile(`\[([^\]]+)\]\([^)]*\)`)

// fieldSchema returns the schema of a field by its row.
func fieldSchema(name, kind, meaning string) map[string]any {
	s := map[string]any{
		"description": strings.ReplaceAll(markdownLink.ReplaceAllString(meaning, "$1"), "`", ""),
	}
	switch kind {
	case "number":
		s["type"], s["minimum"] = "integer", 0
	case "string", "boolean":
		s["type"] = kind
	case "array":
		s["type"], s["items"] = kind, map[string]any{"type": "string"}
	case "object": // of any names
	default:
		maps.Copy(s, reference(kind))
	}
	for key, value := range narrowed[name] {
		s[key] = value
	}
	return s
}

// validator returns what checks a text by the schema of an object, which is "" for an ending.
func validator(t *testing.T, object string) func(text []byte) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema.Ending()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("ending.json", doc); err != nil {
		t.Fatal(err)
	}
	at := "ending.json"
	if object != "" {
		at += "#/$defs/" + object
	}
	compiled, err := c.Compile(at)
	if err != nil {
		t.Fatal(err)
	}
	return func(text []byte) error {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return err
		}
		return compiled.Validate(value)
	}
}

// Each ending of each recording fits the schema, and what is wrong does not.
func TestEndingsFitTheSchema(t *testing.T) {
	fits := validator(t, "")
	n := 0
	recordedEndings(t, func(e *events.Ending) {
		n++
		if err := fits(e.AppendJSON(nil)); err != nil {
			t.Errorf("%s: %v", e.Path, err)
		}
	})
	if n < 1000 {
		t.Errorf("only %d endings are recorded", n)
	}
	least := events.Ending{Path: "close.rst.unread", Cause: "why", Trigger: events.TriggerClose}
	good := string(least.AppendJSON(nil))
	for _, change := range [][2]string{
		{`"netns":0`, `"netns":"0"`}, {`"netns":0`, `"netns":-1`}, {`"severity":"ok"`, `"severity":"bad"`},
		{`"cause":"why",`, ``}, {`"time":"`, `"time":"x`}, {`"evidence":{`, `"evidence":{"probes":1.5,`},
		{`"schema_version":1`, `"schema_version":2`},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good || fits([]byte(bad)) == nil {
			t.Errorf("%s fits the schema, or there is no %s in %s", change[1], change[0], good)
		}
	}
}

// Each answer about a recorded connection fits the schema, which has each of its fields.
func TestAnswersFitTheSchema(t *testing.T) {
	fits, fields := validator(t, "answer"), fieldsOf(t)
	check := func(name string, c *why.Collector) {
		text, err := c.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := fits([]byte(text)); err != nil {
			t.Errorf("%s: %v in %s", name, err, text)
		}
		var answer struct {
			Ends, Others []map[string]any
		}
		fields.missing(t, "answer", []byte(text), &answer)
		for _, end := range answer.Ends {
			fields.miss(t, "end", end)
		}
		for _, other := range answer.Others {
			fields.miss(t, "other", other)
		}
	}
	eachConnection(t, func(name string, c *why.Collector, _ []*events.Ending) { check(name, c) })
	all := why.New(why.Query{Line: logline.Parse("127.0.0.1")})
	recordedEndings(t, func(e *events.Ending) {
		if err := all.Write(e); err != nil {
			t.Fatal(err)
		}
	})
	check("all", all)
	fields.unseen(t, "answer", "partial") // no connection of a scenario is asked for by one end
	fields.unseen(t, "end", "host")       // scenarios are of one host
	fields.unseen(t, "other")
	if fits([]byte(`{"kind":"answer"}`)) == nil {
		t.Error("an answer without a cause fits the schema")
	}
}

// So does the summary.
func TestSummaryFitsTheSchema(t *testing.T) {
	fits, fields := validator(t, "summary"), fieldsOf(t)
	summary := &sink.Summary{BothEnds: &sink.BothEnds{Clocks: []sink.Clock{{AheadNS: -1}}}}
	summary.NoEnd = true
	recordedEndings(t, func(e *events.Ending) { summary.Add(e) })
	var text bytes.Buffer
	if err := summary.PrintJSON(&text, events.Header{Host: "db1", BootID: "1"}); err != nil {
		t.Fatal(err)
	}
	if err := fits(text.Bytes()); err != nil {
		t.Errorf("%v in %s", err, text.String())
	}
	var printed struct {
		Paths    map[string]map[string]any
		BothEnds map[string]any `json:"both_ends"`
	}
	fields.missing(t, "summary", text.Bytes(), &printed)
	for _, counts := range printed.Paths {
		fields.miss(t, "count", counts)
	}
	fields.miss(t, "both_ends", printed.BothEnds)
	for _, clock := range printed.BothEnds["clocks"].([]any) {
		fields.miss(t, "clock", clock.(map[string]any))
	}
	for _, object := range []string{"summary", "count", "both_ends", "clock"} {
		fields.unseen(t, object)
	}
	for _, change := range [][2]string{{`"kind":"summary"`, `"kind":"x"`}, {`"endings":`, `"endings":-`}} {
		bad := strings.Replace(text.String(), change[0], change[1], 1)
		if bad == text.String() || fits([]byte(bad)) == nil {
			t.Errorf("%s fits the schema", change[1])
		}
	}
}

// schemaFields are the fields of the objects of the schema, and whether they were seen.
type schemaFields map[string]map[string]bool

func fieldsOf(t *testing.T) schemaFields {
	t.Helper()
	var doc struct {
		Objects map[string]struct{ Properties map[string]any } `json:"$defs"`
	}
	if err := json.Unmarshal(schema.Ending(), &doc); err != nil {
		t.Fatal(err)
	}
	fields := schemaFields{}
	for name, object := range doc.Objects {
		fields[name] = map[string]bool{}
		for field := range object.Properties {
			fields[name][field] = false
		}
	}
	return fields
}

// missing reports fields of a text that the schema does not have, and decodes it.
func (f schemaFields) missing(t *testing.T, object string, text []byte, to any) {
	t.Helper()
	var has map[string]any
	if err := cmp.Or(json.Unmarshal(text, &has), json.Unmarshal(text, to)); err != nil {
		t.Fatal(err)
	}
	f.miss(t, object, has)
}

func (f schemaFields) miss(t *testing.T, object string, has map[string]any) {
	t.Helper()
	for name := range has {
		if _, known := f[object][name]; !known {
			t.Errorf("the schema does not have %s.%s", object, name)
		}
		f[object][name] = true
	}
}

// unseen reports fields of the schema that were never there, but for some.
func (f schemaFields) unseen(t *testing.T, object string, but ...string) {
	t.Helper()
	if len(f[object]) == 0 {
		t.Errorf("the schema has no object %s", object)
	}
	for name, seen := range f[object] {
		if !seen && !slices.Contains(but, name) {
			t.Errorf("no %s has %s", object, name)
		}
	}
}
