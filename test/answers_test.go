package test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/explain"
)

// Each message that docs/troubleshooting.md lists has an answer of explain, with the command to try first.
func TestMessagesAreExplained(t *testing.T) {
	library, err := explain.Open()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "\n## What programs print\n")
	table, _, _ = strings.Cut(table, "\n## ")
	code := regexp.MustCompile("`([^`]+)`")
	messages := 0
	for line := range strings.Lines(table) {
		cell := strings.Split(line, " | ")
		if len(cell) != 4 || !strings.Contains(cell[0], "`") {
			continue
		}
		command := code.FindStringSubmatch(cell[3])[1]
		for _, message := range code.FindAllStringSubmatch(cell[0], -1) {
			messages++
			text := library.Explain(message[1], explain.Layout{Language: explain.English})
			if !strings.Contains(text, "    "+command+"\n") {
				t.Errorf("%q: the answer lacks %s:\n%s", message[1], command, text)
			}
		}
	}
	if messages < 20 {
		t.Errorf("only %d messages were found", messages)
	}
}

// Each error that classify names in WHY has an answer.
func TestErrorsOfWhyAreExplained(t *testing.T) {
	library, err := explain.Open()
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("../internal/classify/trigger.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`return "(E[A-Z]+)"`).FindAllStringSubmatch(string(code), -1)
	for _, name := range found {
		text := library.Explain(name[1], explain.Layout{Language: explain.English})
		if !strings.HasPrefix(text, name[1]+": ") || !strings.Contains(text, "(errno ") {
			t.Errorf("%s: %q", name[1], text)
		}
	}
	if len(found) < 5 {
		t.Errorf("only %d errors were found", len(found))
	}
}
