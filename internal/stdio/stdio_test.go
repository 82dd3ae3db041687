package stdio

import (
	"os"
	"testing"
)

func TestPipe(t *testing.T) {
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if IsTerminal(to) || Closed(to) {
		t.Error("an open pipe is a terminal, or closed")
	}
	for columns, want := range map[string]int{"": 0, "120": 120, "-3": 0, "wide": 0} {
		if got := Width(to, columns); got != want {
			t.Errorf("COLUMNS=%s: width %d, want %d", columns, got, want)
		}
	}
	if err := from.Close(); err != nil {
		t.Fatal(err)
	}
	if !Closed(to) {
		t.Error("a pipe without a reader is not closed")
	}
}

func TestHasColors(t *testing.T) {
	for _, tt := range []struct {
		term, noColor string
		want          bool
	}{
		{"xterm", "", true}, {"xterm", "1", false}, {"dumb", "", false}, {"", "", false},
	} {
		got := HasColors(func(name string) string {
			return map[string]string{"TERM": tt.term, "NO_COLOR": tt.noColor}[name]
		})
		if got != tt.want {
			t.Errorf("TERM=%s NO_COLOR=%s: %v", tt.term, tt.noColor, got)
		}
	}
}

func TestIsUTF8(t *testing.T) {
	for _, tt := range []struct {
		all, ctype, lang string
		want             bool
	}{
		{"", "", "", true}, {"", "", "en_US.UTF-8", true}, {"", "", "C.utf8", true}, {"", "", "C", false},
		{"POSIX", "", "en_US.UTF-8", false}, {"C.UTF-8", "C", "C", true}, {"", "de_DE.ISO-8859-1", "C.UTF-8", false},
	} {
		got := IsUTF8(func(name string) string {
			return map[string]string{"LC_ALL": tt.all, "LC_CTYPE": tt.ctype, "LANG": tt.lang}[name]
		})
		if got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}
