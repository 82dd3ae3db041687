package table

import (
	"strings"
	"testing"
)

func sample() *Table {
	return &Table{
		Columns: []Column{{Head: "COUNT", Right: true}, {Head: "STATE"}, {Head: "PATH"}, {Head: "WHY", Wrap: true}},
		Rows: [][]string{
			{"1,202", "\x1b[31mCLOSE_WAIT\x1b[39m", "close.fin.active", "everything was read, including the EOF, and the socket is still open"},
			{"1", "日本", "-", "short"},
			{"37", "", "abort.diag", "close → RST"},
		},
	}
}

func TestString(t *testing.T) {
	tests := []struct {
		name, want string
		change     func(*Table)
	}{
		{"unlimited", `
COUNT  STATE       PATH              WHY
1,202  ` + "\x1b[31mCLOSE_WAIT\x1b[39m" + `  close.fin.active  everything was read, including the EOF, and the socket is still open
    1  日本        -                 short
   37              abort.diag        close → RST
`, func(*Table) {}},
		{"wrapped", `
COUNT  STATE       PATH              WHY
1,202  ` + "\x1b[31mCLOSE_WAIT\x1b[39m" + `  close.fin.active  everything was read, including
                                     the EOF, and the socket is
                                     still open
    1  日本        -                 short
   37              abort.diag        close → RST
`, func(t *Table) { t.Width = 68 }},
		{"without heads, indented, of a given width", `
  1,202  ` + "\x1b[31mCLOSE_WAIT\x1b[39m" + `  close.fin.active      everything was read, including the EOF, and the socket is still open
      1  日本        -                     short
     37              abort.diag            close → RST
`, func(t *Table) {
			for i := range t.Columns {
				t.Columns[i].Head = ""
			}
			t.Indent, t.Columns[2].Min = true, 20
		}},
		{"no rows", "\nCOUNT  STATE  PATH  WHY\n", func(t *Table) { t.Rows = nil }},
	}
	for _, tt := range tests {
		table := sample()
		tt.change(table)
		if got, want := table.String(), strings.TrimPrefix(tt.want, "\n"); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, want)
		}
	}
}

// A line is never longer than the terminal, as long as that leaves room for the wrapped column, and no word is lost.
func TestFits(t *testing.T) {
	words := strings.Fields(sample().String())
	for width := 1; width < 130; width++ {
		table := sample()
		table.Width = width
		got := table.String()
		for line := range strings.Lines(got) {
			if w := Width(strings.TrimSuffix(line, "\n")); w > max(width, 61) {
				t.Errorf("width %d: %d cells: %s", width, w, line)
			}
		}
		for _, word := range words {
			if !strings.Contains(got, word) {
				t.Errorf("width %d: %q is missing in\n%s", width, word, got)
			}
		}
	}
}

// A word that is longer than its column makes the column wider.
func TestLongWord(t *testing.T) {
	long := strings.Repeat("x", 50)
	table := &Table{Columns: []Column{{Wrap: true}}, Rows: [][]string{{"a " + long + " b"}}, Width: 30}
	if got, want := table.String(), "a\n"+long+"\nb\n"; got != want {
		t.Errorf("got\n%s", got)
	}
}

// Paragraphs are filled where a line is too wide. Lists and examples stay.
func TestRefill(t *testing.T) {
	const text = "one two three\nfour five\n\n  a list  of words that is wide\nsix\nseven\n"
	for width, want := range map[int]string{
		40: text,
		9:  "one two\nthree\nfour five\n\n  a list  of words that is wide\nsix\nseven\n",
	} {
		if got := Refill(text, width); got != want {
			t.Errorf("%d cells: got %q, want %q", width, got, want)
		}
	}
}
