package fleet

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An openAPI is the part of an API server's OpenAPI document that describes objects.
type openAPI struct {
	Definitions map[string]map[string]any `json:"definitions"`
}

// writeSchemas writes a JSON Schema for each kind of object in an OpenAPI document, by the names that kubeconform looks
// for: deployment-apps-v1.json. Fields that the API does not have are refused, as its own strict decoding does.
func writeSchemas(t *testing.T, document []byte, dir string) int {
	t.Helper()
	var api openAPI
	if err := json.Unmarshal(document, &api); err != nil {
		t.Fatal(err)
	}
	for _, definition := range api.Definitions {
		refuseOthers(definition)
	}
	written := 0
	for name, definition := range api.Definitions {
		for _, kind := range kindsOf(definition) {
			schema := map[string]any{"$ref": "#/definitions/" + name, "definitions": reachable(api.Definitions, name)}
			text, err := json.Marshal(schema)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, kind+".json"), text, 0o644); err != nil {
				t.Fatal(err)
			}
			written++
		}
	}
	return written
}

// refuseOthers makes a definition refuse fields that it does not list, and accept text for a quantity or a port.
func refuseOthers(definition map[string]any) {
	if _, lists := definition["properties"]; lists {
		definition["additionalProperties"] = false
	}
	switch definition["format"] {
	case "int-or-string":
		delete(definition, "type")
	}
}

// kindsOf returns the names of the files for a definition, KIND-GROUP-VERSION in small letters.
func kindsOf(definition map[string]any) []string {
	var names []string
	kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
	for _, entry := range kinds {
		kind, _ := entry.(map[string]any)
		group, _, _ := strings.Cut(fmt.Sprint(kind["group"]), ".")
		name := fmt.Sprint(kind["kind"])
		if group != "" {
			name += "-" + group
		}
		names = append(names, strings.ToLower(name+"-"+fmt.Sprint(kind["version"])))
	}
	return names
}

// reachable returns the definitions that one refers to, directly or not, and itself.
func reachable(all map[string]map[string]any, from string) map[string]any {
	found := map[string]any{}
	var visit func(name string)
	visit = func(name string) {
		if _, seen := found[name]; seen {
			return
		}
		found[name] = all[name]
		for _, to := range references(all[name]) {
			visit(to)
		}
	}
	visit(from)
	return found
}

// references returns the definitions that a part of a schema names.
func references(part any) []string {
	var names []string
	switch part := part.(type) {
	case map[string]any:
		for key, value := range part {
			if text, is := value.(string); is && key == "$ref" {
				names = append(names, strings.TrimPrefix(text, "#/definitions/"))
				continue
			}
			names = append(names, references(value)...)
		}
	case []any:
		for _, value := range part {
			names = append(names, references(value)...)
		}
	}
	return names
}
