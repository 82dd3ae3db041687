package test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The fields that docs/opentelemetry.md maps are fields of docs/json.md.
func TestMappedFieldsExist(t *testing.T) {
	text, err := os.ReadFile("../docs/opentelemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	fields, n := documented(t), 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cell, _, _ := strings.Cut(line[2:], " |")
		object := ""
		for _, m := range regexp.MustCompile("`([a-z0-9_.*]+)`").FindAllStringSubmatch(cell, -1) {
			name := m[1]
			if before, _, ok := strings.Cut(name, "."); ok && before != "" {
				object = before
			} else if ok {
				name = object + name
			}
			name = strings.TrimSuffix(strings.Replace(name, "owner.", "actor.", 1), ".*")
			if _, is := fields[name]; !is && name != "error" {
				t.Errorf("docs/json.md has no %s", name)
			}
			n++
		}
	}
	if n < 20 {
		t.Errorf("only %d fields are mapped", n)
	}
}
