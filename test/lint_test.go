package test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	maxLine    = 120 // characters
	maxSubject = 72
	// Commits from before this date may have longer subjects.
	subjectsSince = "2026-11-28T15:00:00Z"
)

// tableRow matches a row of a table, in Go or Markdown.
var tableRow = regexp.MustCompile("^\\s*(\\{.*\\},?|\\|.*\\||[\"`].*,|[^ ]+: +.*,)( +//.*)?$")

// Lines of Go and Markdown have at most 120 characters, except where they cannot
// be wrapped: rows of tables, samples of output, addresses, directives.
func TestLintLines(t *testing.T) {
	for _, file := range trackedFiles(t) {
		switch {
		case strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_bpfel.go"):
		case strings.HasSuffix(file, ".md"):
		default:
			continue
		}
		inBlock := false
		raw := rawLines(t, file)
		for n, line := range strings.Split(readFile(t, filepath.Join("..", file)), "\n") {
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				inBlock = !inBlock
			}
			cannotWrap := inBlock || raw[n+1] || tableRow.MatchString(line) || strings.HasPrefix(line, "//go:") ||
				strings.Contains(line, "://")
			if cannotWrap || utf8.RuneCountInString(line) <= maxLine {
				continue
			}
			t.Errorf("%s:%d: %d characters, want at most %d", file, n+1, utf8.RuneCountInString(line), maxLine)
		}
	}
}

// rawLines returns the lines of a Go file that belong to a string in backquotes.
func rawLines(t *testing.T, file string) map[int]bool {
	t.Helper()
	lines := map[int]bool{}
	if !strings.HasSuffix(file, ".go") {
		return lines
	}
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, filepath.Join("..", file), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && strings.HasPrefix(lit.Value, "`") {
			for line := files.Position(lit.Pos()).Line; line <= files.Position(lit.End()).Line; line++ {
				lines[line] = true
			}
		}
		return true
	})
	return lines
}

func trackedFiles(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "-C", "..", "ls-files", "-z").Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	return strings.Split(strings.Trim(string(out), "\x00"), "\x00")
}

// The subject of a commit has at most 72 characters, and begins with what the
// commit is about. A shallow clone has fewer commits to check.
func TestLintSubjects(t *testing.T) {
	out, err := exec.Command("git", "-C", "..", "log", "--no-merges", "--since="+subjectsSince, "--format=%h %s").Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	about := regexp.MustCompile(`^[a-z0-9./, -]+: [^ ]`)
	for line := range bytes.Lines(out) {
		hash, subject, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		if n := utf8.RuneCountInString(subject); n > maxSubject || !about.MatchString(subject) {
			t.Errorf(
				"commit %s: %q has %d characters, want at most %d, as in \"live: count retries\"",
				hash,
				subject,
				n,
				maxSubject,
			)
		}
	}
}
