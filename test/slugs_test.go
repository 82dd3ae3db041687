package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// slugExamples are the only texts outside of internal/events and internal/explain that may hold a slug, by file.
var slugExamples = map[string][]string{
	"test/documents/reader.go": {"close.fin.active"}, // of a page of the documents
}

// isSlug matches a text that is a path, or what several paths begin with, such as close.linger-wait.
var isSlug = regexp.MustCompile(`^(?:` + strings.Join(events.Families(), "|") + `)(?:\.[a-z0-9][a-z0-9-]*)+$`)

// Code names paths by the constants of internal/events, so that a path has one place.
func TestNoSlugLiterals(t *testing.T) {
	err := filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(name, ".."+string(filepath.Separator)))
		switch {
		case entry.IsDir() && (rel == "internal/events" || rel == "internal/explain"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil && isSlug.MatchString(text) && !isExample(rel, text) {
					t.Errorf("%s: %q is a literal; use its constant of internal/events", rel, text)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func isExample(file, text string) bool {
	for _, example := range slugExamples[file] {
		if example == text {
			return true
		}
	}
	return false
}

func TestIsSlug(t *testing.T) {
	for text, want := range map[string]bool{
		"close.rst.unread": true, "close.linger-wait": true, "recv.rst": true, "app.write": true,
		"close": false, "closetrace lab close.rst.unread": false, "close.txt.": false, "events.rst": false,
	} {
		if isSlug.MatchString(text) != want {
			t.Errorf("%q is a slug: %v", text, !want)
		}
	}
}
