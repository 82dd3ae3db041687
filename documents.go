package closetrace

import "embed"

// Documents are what people read. Tests run the commands in them.
//
//go:embed *.md docs/*.md
var Documents embed.FS
