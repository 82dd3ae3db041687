// Package schema has the JSON Schema (2020-12) of the output of closetrace -o json.
package schema

import _ "embed"

//go:embed ending.schema.json
var ending []byte

// Ending returns the schema of a line. It is written from docs/json.md.
func Ending() []byte { return ending }
