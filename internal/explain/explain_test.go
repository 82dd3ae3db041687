package explain

import (
	"strings"
	"testing"
)

func all(t *testing.T) []*Page {
	t.Helper()
	paths, topics, err := All()
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 || len(topics) == 0 {
		t.Fatalf("%d paths, %d topics", len(paths), len(topics))
	}
	return append(paths, topics...)
}

// What cannot be wrapped fits an ordinary terminal.
func TestFits(t *testing.T) {
	for _, p := range all(t) {
		for _, l := range Languages {
			for line := range strings.Lines(p.Text(Layout{Language: l})) {
				if cells(strings.TrimRight(line, "\n")) > 90 {
					t.Errorf("%s in %s: %d cells: %s", p.Name, l, cells(line), line)
				}
			}
		}
	}
}

// No text holds what only the files need.
func TestNoMarksLeft(t *testing.T) {
	for _, p := range all(t) {
		for _, l := range Languages {
			text := p.Text(Layout{Language: l})
			for _, mark := range []string{"\n@", "\n-- ", "`", "\n\n\n"} {
				if strings.Contains(text, mark) {
					t.Errorf("%s in %s contains %q", p.Name, l, mark)
				}
			}
		}
	}
}

func TestNarrow(t *testing.T) {
	for _, p := range all(t) {
		for _, l := range Languages {
			for line := range strings.Lines(wrap(p.Title(l)+" "+p.text(l, "what"), "- ", "  ", leastWidth)) {
				if cells(strings.TrimRight(line, "\n")) > leastWidth {
					t.Errorf("%s in %s: %q", p.Name, l, line)
				}
			}
		}
	}
}

func TestWordsInEachLanguage(t *testing.T) {
	for _, l := range Languages {
		for key := range words[English] {
			if words[l][key] == "" {
				t.Errorf("%s has no word for %s", l, key)
			}
		}
		for _, f := range Families {
			if words[l]["family."+f] == "" {
				t.Errorf("%s has no word for family %s", l, f)
			}
		}
	}
}

func TestFromLocale(t *testing.T) {
	for locale, want := range map[string]Language{
		"": English, "C": English, "POSIX": English, "en_US.UTF-8": English, "de_DE.UTF-8": English,
		"zh_CN.UTF-8": Chinese, "zh_CN.utf8": Chinese, "zh_SG": Chinese, "zh": Chinese,
		"zh_CN.UTF-8@pinyin": Chinese, "zh_CN.GB18030": English, "zhx_CN": English,
	} {
		if got := FromLocale(locale); got != want {
			t.Errorf("%q: %s, want %s", locale, got, want)
		}
	}
}

func TestNear(t *testing.T) {
	names := []string{"close.fin.active", "close.rst.unread", "close.rst.linger0", "linger", "recv.rst"}
	for word, want := range map[string]string{
		"unread": "close.rst.unread", "Linger": "close.rst.linger0 linger", "close.fin.activ": "close.fin.active",
		"recv.rts": "recv.rst", "close.rst.unreda": "close.rst.unread", "": "", "something-else-entirely": "",
	} {
		if got := strings.Join(Near(word, names), " "); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"one two three", "- one two\n  three\n"},
		{"overlong-word next", "- overlong-word\n  next\n"},
		{"内核丢弃数据，发送 RST。", "- 内核丢弃\n  数据，发\n  送 RST。\n"},
		{"关闭（见上文）", "- 关闭（见\n  上文）\n"},
	} {
		if got := wrap(tt.text, "- ", "  ", 10); got != tt.want {
			t.Errorf("%q:\n%swant\n%s", tt.text, got, tt.want)
		}
	}
	if got := join("第一行，", "第二行"); got != "第一行，第二行" {
		t.Errorf("a space inside of Chinese: %q", got)
	}
	if got := join("发送", "RST"); got != "发送 RST" {
		t.Errorf("no space between Chinese and RST: %q", got)
	}
}

func TestDiagram(t *testing.T) {
	steps, err := parseWire("close(2) | FIN > | EOF\n| < ACK |\n | 5 B >x |")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"---------- FIN ---------->", "<---------- ACK ----------", "--------- 5 B ---------->x"}
	for i, s := range steps {
		if s.arrow != want[i] {
			t.Errorf("got %q, want %q", s.arrow, want[i])
		}
	}
	for _, bad := range []string{"close(2) FIN", "a | FIN | b", "| > |", "a | b | c | d", " | |", "| a segment with much too long a name > |"} {
		if _, err := parseWire(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// Each mistake in a file is found, and the file named.
func TestMistakes(t *testing.T) {
	good, err := files.ReadFile("paths/close.rst.unread.txt")
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string][2]string{
		"a second section":       {"-- wire --", "-- chain --"},
		"section en.what":        {"-- en.what --", "-- en.more --"},
		"unknown key":            {"harmless: no", "harm: no"},
		"none of yes, no":        {"harmless: no", "harmless: perhaps"},
		"has no version":         {"TCP_ABORT_ON_CLOSE 6.12", "TCP_ABORT_ON_CLOSE"},
		"either a scenario":      {"lab: close.rst.unread\n", ""},
		"which is nowhere":       {"@chain.close", "@chain.nothing"},
		"does not stand in":      {"functions: __tcp_close", "functions: tcp_abort"},
		"no condition":           {"if data_was_unread", "data_was_unread"},
		"is not a line of the":   {"harmless: no", "harmless"},
		"goes nowhere":           {"RST >", "RST"},
		"must not be empty":      {"functions: __tcp_close > tcp_send_active_reset\n", ""},
		"unknown section":        {"-- en.avoid --", "-- en.mood --\nbad\n-- en.avoid --"},
		"is missing or empty":    {"-- chain --\n@chain.close", "-- chain --\n-- other --"},
		"paths/close.rst.unread": {"-- en.what --", ""},
	} {
		bad := strings.Replace(string(good), change[0], change[1], 1)
		if bad == string(good) {
			t.Fatalf("%q does not stand in the file", change[0])
		}
		if _, err := parsePage("paths", "close.rst.unread", bad); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%q: got %v", what, err)
		}
	}
	if _, err := parsePage("paths", "open.fin", string(good)); err == nil {
		t.Error("a path of an unknown family is accepted")
	}
}
