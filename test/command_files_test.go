package test

import (
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// The limits of cmd/closetrace, which only turns flags into options. What is for Linux only is in files of its own.
const (
	maxCommandFiles = 21
	maxCommandLines = 2700
)

// added are the files of commands that are not within these limits, and how many lines each may have.
var added = map[string]int{
	"annotate.go": 130, "record_linux.go": 160, "report.go": 150, "schema.go": 160, "serve_linux.go": 290,
	"serve_export_linux.go": 110, "why.go": 180, "why_linux.go": 90,
}

// cmd/closetrace stays small.
func TestCommandPackageIsSmall(t *testing.T) {
	files, lines := 0, 0
	for _, pkg := range load(t, packages.NeedName|packages.NeedFiles, "./cmd/closetrace") {
		for _, file := range pkg.GoFiles {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			n := strings.Count(string(text), "\n")
			if limit, ok := added[filepath.Base(file)]; ok {
				if n > limit {
					t.Errorf("%s: %d lines, at most %d", file, n, limit)
				}
				continue
			}
			files++
			lines += n
		}
	}
	if files == 0 || files > maxCommandFiles || lines > maxCommandLines {
		t.Errorf("%d files, %d lines; at most %d and %d", files, lines, maxCommandFiles, maxCommandLines)
	}
}

// The files of cmd/closetrace refer to each other without a circle, so that each can
// be read after those that it refers to.
func TestCommandFilesHaveNoCircle(t *testing.T) {
	const mode = packages.NeedName | packages.NeedFiles | packages.NeedImports | packages.NeedSyntax |
		packages.NeedTypes | packages.NeedTypesInfo
	references := map[string]map[string]string{} // by file, to a file: one of the names
	for _, pkg := range load(t, mode, "./cmd/closetrace") {
		for id, object := range pkg.TypesInfo.Uses {
			if _, isImport := object.(*types.PkgName); isImport || object.Pkg() != pkg.Types {
				continue
			}
			from := filepath.Base(pkg.Fset.Position(id.Pos()).Filename)
			to := filepath.Base(pkg.Fset.Position(object.Pos()).Filename)
			if from == to {
				continue
			}
			if references[from] == nil {
				references[from] = map[string]string{}
			}
			references[from][to] = object.Name()
		}
	}
	if references["main.go"]["root.go"] == "" {
		t.Fatal("main.go does not refer to root.go: nothing was type-checked")
	}
	removeAcyclic(references)
	for _, from := range slices.Sorted(maps.Keys(references)) {
		for to, name := range references[from] {
			if references[to] != nil {
				t.Errorf("%s refers to %s (%s), which is in a circle with it", from, to, name)
			}
		}
	}
}

// removeAcyclic removes the files that are on no path from a circle to a circle:
// again and again those that refer to no other file that is left, or that none of
// these refers to.
func removeAcyclic(references map[string]map[string]string) {
	for before := -1; before != len(references); {
		before = len(references)
		for file, to := range references {
			refers, referred := false, false
			for other, back := range references {
				refers = refers || to[other] != ""
				referred = referred || back[file] != ""
			}
			if !refers || !referred {
				delete(references, file)
			}
		}
	}
}
