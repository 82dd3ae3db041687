//go:build linux

package main

import (
	"bytes"
	"os"
	"testing"

	// go test keeps a result until a package that it imports changes, but the test runs a program that it builds.
	_ "github.com/closetrace/closetrace/internal/pipeline"
)

// The picture of the README shows what this version prints.
func TestPicture(t *testing.T) {
	t.Chdir("../..")
	program, err := build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	output, err := replay(program)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if want := draw(output, columns); !bytes.Equal(got, want) {
		t.Errorf("%s is not what closetrace replay prints: go run ./test/picture draws it again", document)
	}
}

func TestDraw(t *testing.T) {
	got := string(draw("ab\x1b[31mcd\x1b[0me <", 3))
	for _, want := range []string{
		`<text x="16.0" y="49.2" textLength="16.8">ab</text>`,
		`<text x="32.8" y="49.2" textLength="8.4" fill="#ff7b72">c</text>`,
		`<text x="16.0" y="68.2" textLength="8.4" fill="#ff7b72">d</text>`,
		`<text x="24.4" y="68.2" textLength="16.8">e </text>`,
		`<text x="16.0" y="87.2" textLength="8.4">&lt;</text>`,
	} {
		if !bytes.Contains([]byte(got), []byte(want)) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}
