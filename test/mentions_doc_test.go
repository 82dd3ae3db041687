package test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/test/documents"
)

var (
	aFile       = regexp.MustCompile("`((?:\\.ci|bpf|cmd|docs|internal|test)/[a-zA-Z0-9_./*-]*)`")
	aTest       = regexp.MustCompile("`((?:Test|Fuzz)[A-Z][a-zA-Z]+)`")
	aLink       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading     = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// Files, tests, pages and parts of pages that the documents mention are there.
func TestMentioned(t *testing.T) {
	docs, err := documents.All()
	if err != nil {
		t.Fatal(err)
	}
	anchors := map[string]bool{}
	for _, d := range docs {
		anchors[d.File] = true
		for _, h := range heading.FindAllStringSubmatch(d.Text, -1) {
			anchors[d.File+"#"+anchor(h[1])] = true
		}
	}
	tests := allTests(t)
	for _, d := range docs {
		for _, m := range aFile.FindAllStringSubmatch(d.Text, -1) {
			// A word in capitals stands for a name.
			if found, err := filepath.Glob(filepath.Join("..", m[1])); !strings.Contains(m[1], "PATH") &&
				(err != nil || len(found) == 0) {
				t.Errorf("%s mentions %s, which is not there", d.File, m[1])
			}
		}
		for _, m := range aTest.FindAllStringSubmatch(d.Text, -1) {
			declared := "func " + m[1]
			if !strings.Contains(tests, declared+"(t *testing.T)") && !strings.Contains(tests, declared+"(f *testing.F)") {
				t.Errorf("%s mentions %s, and there is no such test", d.File, m[1])
			}
		}
		for _, m := range aLink.FindAllStringSubmatch(d.Text, -1) {
			file, part, _ := strings.Cut(m[1], "#")
			to := d.File
			if file != "" {
				to = path.Join(path.Dir(d.File), file)
			}
			if part != "" {
				to += "#" + part
			}
			if _, err := os.Stat(filepath.Join("..", to)); err != nil && !anchors[to] {
				t.Errorf("%s links to %s, which is not there", d.File, m[1])
			}
		}
	}
}

// anchor is what a heading is linked to by.
func anchor(heading string) string {
	return strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// allTests is the text of all tests.
func allTests(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	patterns := []string{
		"../cmd/*/*_test.go", "../internal/*/*_test.go", "../deploy/*/*_test.go", "*_test.go", "*/*_test.go",
	}
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
	}
	return all.String()
}
