//go:build linux

package main

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/closetrace/closetrace/internal/sink/table"
	"github.com/closetrace/closetrace/test/documents"
	"github.com/closetrace/closetrace/test/screen"
)

// onFake runs closetrace with a fake source. The lab needs a real kernel, so it only
// lists its scenarios. Several documents start a service at once, each at its own port.
const onFake = `[ "$1" != lab ] || set -- "$@" --list
[ "$1" != serve ] || set -- "$@" --listen 127.0.0.1:0
exec closetrace-fake "$@"`

// Every closetrace command in the documents works. The live tests run them on the real
// kernel.
func TestDocuments(t *testing.T) {
	docs, err := documents.All()
	if err != nil {
		t.Fatal(err)
	}
	var tried atomic.Int32
	t.Cleanup(func() {
		if n := tried.Load(); n < 20 {
			t.Errorf("%d commands were found", n)
		}
	})
	for _, d := range docs {
		t.Run(d.File, func(t *testing.T) {
			t.Parallel()
			commands, err := d.Commands()
			if err != nil {
				t.Fatal(err)
			}
			r, err := documents.NewReader(t.TempDir(), onFake)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range commands {
				if c.Program() != "closetrace" {
					continue // test/commands_doc_test.go
				}
				tried.Add(1)
				out, err := r.Try(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				// The help of an unknown command is that of closetrace.
				name, help := strings.CutSuffix(c.Text, " --help")
				if out.Failed() || help && !strings.Contains(out.Stdout, name+" ") {
					t.Errorf("%s\nexit code %d\n%s%s", c, out.Code, out.Stdout, out.Stderr)
				}
			}
		})
	}
}

// The help fits a terminal of 80 columns, but for a few examples to copy.
func TestHelpFits(t *testing.T) {
	const width = 80
	s := screen.Open(t, width, 24)
	s.Run("closetrace", "top", "-h")
	for _, want := range []string{
		table.Refill(topAbout, width), "\n      --tier WORD          quiet: the kernel only counts ordinary closes;\n",
	} {
		if text := s.Ready(); !strings.Contains(text, want) || strings.Contains(text, topAbout) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	var long []string
	for _, cmd := range newRoot(fakeSystem(0), io.Discard).Commands() {
		for line := range strings.Lines(table.Refill(cmd.Long, width) + cmd.Example) {
			isList := strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "      ") // of manual pages
			if isList && table.Width(strings.TrimSuffix(line, "\n")) > width {
				long = append(long, line)
			}
		}
	}
	if len(long) > 2 { // a line of a log, and four files
		t.Errorf("do not fit: %q", long)
	}
}
