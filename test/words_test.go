package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/test/documents"
)

// privateWords lists expressions that no text for users has, with what to write
// instead. The glossary of CONTRIBUTING.md explains the choice.
var privateWords = []struct{ pattern, instead string }{
	{`told|tells|telling|tell of|tell how|tell what|tell which`, "report, print, show"},
	{`whoever|somebody|someone|anybody|nobody's`, "name the reader, the peer, the application"},
	{`everybody|that nobody`, "every user, that no process"},
	{`whose call|of whom`, "which process closed it"},
	{`for want of`, "without"},
	{`in vain`, "unanswered, not acknowledged"},
	{`of late`, "recent"},
	{`gives? way`, "yields"},
	{`makes? do`, "is enough"},
	{`comes? by`, "polls"},
	{`afterthoughts?|patience|crowd|sleepers?`, "the field's term"},
	{`to be had`, "available"},
	{`taken for`, "considered"},
	{`made to`, "forced to"},
	{`is not possible|not possible:`, "invalid value, or: skipped"},
	{`lies ahead`, "use a positive duration"},
	{`likewise`, "repeat the noun"},
	{`all the same`, "still"},
	{`as good as|as good to`, "state what holds"},
	{`mere|mannered`, "drop it"},
	{`once more|anew`, "again"},
	{`is so|that is so`, "holds"},
	{`whose no`, "which side refused"},
	{`in good order`, "cleanly"},
	{`as far as (it|they) say`, "state the fact"},
	{`go(es)? by`, "follow"},
	{`room`, "package, space"},
	{`surprises?`, "an application sees as an error"},
	{`mend|mends|mended|mending`, "fix"},
	{`used up`, "exhausted"},
	{`if there is a use in it`, "if it could still help"},
	{`print this`, "show this help"},
	{`wrong use`, "usage error"},
	{`counts as gone`, "keepalive timeout"},
	{`is none of`, "does not involve"},
	{`in place of`, "instead of"},
}

// No text that a user sees has a private word: documents, help, errors, hints,
// causes and pages of explain.
func TestPrivateWords(t *testing.T) {
	var alternatives []string
	for _, word := range privateWords {
		alternatives = append(alternatives, word.pattern)
	}
	private := regexp.MustCompile(`(?i)\b(?:` + strings.Join(alternatives, "|") + `)\b`)
	check := func(place, text string) {
		for n, line := range slices.Collect(strings.Lines(text)) {
			for _, found := range private.FindAllString(line, -1) {
				t.Errorf("%s, line %d: %q in %q; instead: %s", place, n+1, found, strings.TrimSpace(line), insteadOf(found))
			}
		}
	}
	docs, err := documents.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		check(d.File, withoutGlossary(d))
	}
	for _, file := range filesUnder(t, "../cmd", "../internal") {
		switch {
		case strings.HasPrefix(file, "../internal/lab/scenarios/"): // what is recorded is checked as endings
			check(file, beforeEvents(readFile(t, file)))
		case strings.HasSuffix(file, ".txtar"),
			strings.HasPrefix(file, "../internal/explain/") && strings.HasSuffix(file, ".txt"):
			check(file, readFile(t, file))
		case strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_test.go"):
			for _, literal := range stringLiterals(t, file) {
				check(literal.place, literal.text)
			}
		}
	}
	recordedEndings(t, func(e *events.Ending) { check("WHY of "+string(e.Path), e.Title+"  "+e.Cause) })
	for command, text := range helpTexts(t) {
		check(command, text)
	}
}

func insteadOf(found string) string {
	for _, word := range privateWords {
		if regexp.MustCompile(`(?i)^(?:` + word.pattern + `)$`).MatchString(found) {
			return word.instead
		}
	}
	return ""
}

// withoutGlossary returns a document without the section of CONTRIBUTING.md that
// lists the private words.
func withoutGlossary(d documents.Document) string {
	if d.File != "CONTRIBUTING.md" {
		return d.Text
	}
	return regexp.MustCompile(`(?s)\n## Words\n.*?\n## `).ReplaceAllString(d.Text, "\n## ")
}

func beforeEvents(scenario string) string {
	text, _, _ := strings.Cut(scenario, "\n-- events.")
	return text
}

// filesUnder returns all files of some directories.
func filesUnder(t *testing.T, dirs ...string) (files []string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

type literal struct{ place, text string }

// stringLiterals returns the string literals of a Go file, which contain every
// message, hint and help text of it.
func stringLiterals(t *testing.T, path string) (found []literal) {
	t.Helper()
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, literal{files.Position(lit.Pos()).String(), text})
		}
		return true
	})
	return found
}

// helpTexts returns what each command prints for -h.
func helpTexts(t *testing.T) map[string]string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "closetrace")
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/closetrace").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	texts := map[string]string{}
	for _, command := range []string{
		"", "trace", "record", "top", "stuck", "run", "replay", "why", "explain", "lab", "check", "man",
	} {
		args := append(strings.Fields(command), "-h")
		out, err := exec.Command(program, args...).CombinedOutput()
		if err != nil || len(out) < 100 {
			t.Errorf("closetrace %v: %v, %q", args, err, out)
		}
		texts[strings.TrimSpace("closetrace "+command)+" -h"] = string(out)
	}
	return texts
}
