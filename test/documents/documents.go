// Package documents finds the commands in the documents, and runs them as a reader would. It finds new documents by
// itself.
//
// A command is each line of a block marked sh, a line of any other block that begins with "$ ", and text in
// backquotes that begins with closetrace or sudo closetrace. In prose, closetrace and one word more is the name of a
// command: its help is run.
package documents

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/closetrace/closetrace"
)

// Command is a command line in a document.
type Command struct {
	File string
	Line int
	Text string
}

func (c Command) String() string { return fmt.Sprintf("%s:%d: %s", c.File, c.Line, c.Text) }

// Program returns the name of the program, without sudo and variables.
func (c Command) Program() string {
	for word := range strings.FieldsSeq(c.Text) {
		if word != "sudo" && !strings.Contains(word, "=") {
			return word
		}
	}
	return ""
}

// Document is a page in Markdown.
type Document struct {
	File, Text string
}

// All returns all documents.
func All() ([]Document, error) {
	var all []Document
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := fs.Glob(closetrace.Documents, pattern)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := closetrace.Documents.ReadFile(file)
			if err != nil {
				return nil, err
			}
			all = append(all, Document{path.Clean(file), string(text)})
		}
	}
	return all, nil
}

var inline = regexp.MustCompile("`((?:sudo )?closetrace [^`]*)`")

// block is a fenced block. The text after its fence is its kind.
type block struct {
	kind  string
	line  int // of its first line
	lines []string
}

// split returns the fenced blocks and the lines outside of them.
func (d Document) split() (blocks []block, prose []string) {
	var open *block
	for i, line := range strings.Split(d.Text, "\n") {
		kind, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open == nil:
			open = &block{kind: kind, line: i + 2}
			line = ""
		case fence:
			blocks = append(blocks, *open)
			open = nil
			line = ""
		case open != nil:
			open.lines = append(open.lines, line)
			line = ""
		}
		prose = append(prose, line)
	}
	return blocks, prose
}

// Samples returns the lines of output in a document.
func (d Document) Samples() (lines []string) {
	blocks, _ := d.split()
	for _, b := range blocks {
		if b.kind == "" {
			lines = append(lines, b.lines...)
		}
	}
	return lines
}

// Commands returns the commands of a document, from top to bottom.
func (d Document) Commands() (all []Command, err error) {
	blocks, prose := d.split()
	for _, b := range blocks {
		some, err := d.inBlock(b)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	// A command in prose may go on in the next line.
	text := strings.Join(prose, "\n")
	for _, at := range inline.FindAllStringSubmatchIndex(text, -1) {
		line := 1 + strings.Count(text[:at[0]], "\n")
		words := strings.Fields(text[at[2]:at[3]])
		if len(words) == 2 && words[0] == "closetrace" && !strings.HasPrefix(words[1], "-") {
			words = append(words, "--help")
		}
		all = append(all, Command{d.File, line, strings.Join(words, " ")})
	}
	slices.SortStableFunc(all, func(a, b Command) int { return a.Line - b.Line })
	return all, nil
}

func (d Document) inBlock(b block) (all []Command, err error) {
	joined := ""
	for i, line := range b.lines {
		command, prompt := strings.CutPrefix(line, "$ ")
		if b.kind != "sh" && !prompt {
			if strings.HasPrefix(line, "sudo ") || strings.HasPrefix(line, "closetrace ") && !strings.Contains(line, ": ") {
				return nil, fmt.Errorf("%s:%d: a command in a block that is not marked sh", d.File, b.line+i)
			}
			continue
		}
		if rest, goesOn := strings.CutSuffix(command, "\\"); goesOn {
			joined += rest
			continue
		}
		command, _, _ = strings.Cut(joined+command, "  #")
		joined = ""
		if command = strings.TrimSpace(command); command != "" && !strings.HasPrefix(command, "#") {
			all = append(all, Command{d.File, b.line + i, command})
		}
	}
	return all, nil
}
