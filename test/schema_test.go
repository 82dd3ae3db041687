package test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/schema"
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
}

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
	default:
		s["$ref"] = "#/$defs/" + kind
	}
	for key, value := range narrowed[name] {
		s[key] = value
	}
	return s
}

// Each ending of each recording fits the schema, and what is wrong does not.
func TestEndingsFitTheSchema(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema.Ending()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("ending.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("ending.json")
	if err != nil {
		t.Fatal(err)
	}
	fits := func(line []byte) error {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err != nil {
			return err
		}
		return compiled.Validate(value)
	}
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
