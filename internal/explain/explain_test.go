package explain

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink/table"
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

// Every page and the index fit a terminal of 80 columns, in every language.
func TestFits80Columns(t *testing.T) {
	check := func(name string, l Language, text string) {
		t.Helper()
		for line := range strings.Lines(text) {
			if n := table.Width(strings.TrimRight(line, "\n")); n > 80 {
				t.Errorf("%s in %s: %d columns: %s", name, l, n, line)
			}
		}
	}
	paths, topics, err := All()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range Languages {
		check("index", l, Index(paths, topics, Layout{Language: l}))
		for _, p := range slices.Concat(paths, topics) {
			check(p.Name, l, p.Text(Layout{Language: l}))
			check(p.Name, l, p.Text(Layout{Language: l, Width: 80}))
		}
	}
}

// Chinese text has no blank beside full-width punctuation, at any width.
func TestNoBlankBesidePunctuation(t *testing.T) {
	blank := regexp.MustCompile(`[，。；：？！、）》」』”] +\S|\S +[（《「『，。；：？！、）]`)
	for _, p := range all(t) {
		for _, width := range []int{40, 64, 72, 80, 100} {
			for line := range strings.Lines(p.Text(Layout{Language: Chinese, Width: width})) {
				verbatim := strings.HasPrefix(line, "    ") // diagrams align with blanks
				if !verbatim && blank.MatchString(line) {
					t.Errorf("%s: %s", p.Name, line)
				}
				if strings.IndexAny(strings.TrimSpace(line), table.Closing) == 0 {
					t.Errorf("%s: punctuation begins a line: %s", p.Name, line)
				}
			}
		}
	}
}

// A path that the crash of a process takes says where the reason of the crash is.
func TestAdviceAfterACrash(t *testing.T) {
	library, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []events.Path{
		events.CloseFINActive, events.CloseFINPassive, events.CloseRSTUnread, events.CloseRSTLinger0,
		events.CloseRSTLinger0Unsent, events.CloseRSTChild,
	} {
		for language, want := range map[Language]string{English: "kernel (OOM killer).", Chinese: "内核日志（OOM killer）。"} {
			if text := library.Avoid(string(path), language); !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing: %s", path, want, text)
			}
		}
	}
}

// Terms of a language are the same on every page.
func TestTerms(t *testing.T) {
	for l, terms := range map[Language][]string{
		English: {
			"somebody", "nobody", "whoever", "It depends", "told", " tells ", "in vain", "without a word", "all the same",
			"without owner", " be had", "likewise",
			"PID/COMM", // columns of the table alone, not of closetrace why
		},
		Chinese: {"属主", "某人", "视情况", "悄悄", "没有人可以读", "放手", "PID/COMM"},
	} {
		for _, p := range all(t) {
			for line := range strings.Lines(p.Text(Layout{Language: l})) {
				for _, term := range terms {
					if strings.Contains(line, term) {
						t.Errorf("%s in %s has %q: %s", p.Name, l, term, line)
					}
				}
			}
		}
	}
}

// The answer to "Harmless?" begins with the answer.
func TestHarmless(t *testing.T) {
	answers := map[Language]map[string]*regexp.Regexp{
		English: {
			"yes":     regexp.MustCompile(`^Yes\. [A-Z]`),
			"no":      regexp.MustCompile(`^No\. [A-Z]`),
			"depends": regexp.MustCompile(`^(Yes, (if|unless|for) |This (close|call) is harmless; )`),
		},
		Chinese: {
			"yes":     regexp.MustCompile(`^无害。`),
			"no":      regexp.MustCompile(`^有害。`),
			"depends": regexp.MustCompile(`^[^。]*无害[。：；，]`),
		},
	}
	for _, p := range all(t) {
		for _, l := range Languages {
			if p.Topic() {
				continue
			}
			_, answer, _ := strings.Cut(p.Text(Layout{Language: l}), "\n"+words[l]["harmless"]+"\n  ")
			if !answers[l][string(p.Info.Harmless)].MatchString(answer) {
				line, _, _ := strings.Cut(answer, "\n")
				t.Errorf("%s in %s: harmless is %s, but the answer is %q", p.Name, l, p.Info.Harmless, line)
			}
		}
	}
}

// The marks of the file format are not in the output.
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
			for line := range strings.Lines(table.Fill(p.Title(l)+" "+p.text(l, "what"), "- ", "  ", 40)) {
				if table.Width(strings.TrimRight(line, "\n")) > 40 {
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
		for _, f := range events.Families() {
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

func TestSuggest(t *testing.T) {
	names := []string{"close.fin.active", "close.rst.unread", "close.rst.linger0", "linger", "recv.rst"}
	for word, want := range map[string]string{
		"unread": "close.rst.unread", "Linger": "close.rst.linger0 linger", "close.fin.activ": "close.fin.active",
		"recv.rts": "recv.rst", "close.rst.unreda": "close.rst.unread", "": "", "something-else-entirely": "",
	} {
		if got := strings.Join(Suggest(word, names), " "); got != want {
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
		if got := table.Fill(tt.text, "- ", "  ", 10); got != tt.want {
			t.Errorf("%q:\n%swant\n%s", tt.text, got, tt.want)
		}
	}
	for _, tt := range []struct{ a, b, want string }{
		{"one", "two", "one two"},
		{"第一行，", "第二行", "第一行，第二行"},
		{"第一行，", "RST", "第一行，RST"},
		{"发送", "RST", "发送 RST"},
		{"RST", "（reply.nosocket）", "RST（reply.nosocket）"},
		{"看到", "“broken pipe”", "看到“broken pipe”"},
	} {
		if got := table.Join(tt.a, tt.b); got != tt.want {
			t.Errorf("%q and %q: got %q, want %q", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestDiagram(t *testing.T) {
	page := &Page{sections: map[string]string{"wire": "close(2) | FIN > | EOF\n| < ACK |\n | 5 B >x |"}}
	want := `
    this side                              peer
    close(2)   ---------- FIN ---------->  EOF
               <---------- ACK ----------
               --------- 5 B ---------->x
`
	if got := "\n" + page.diagram(English); got != want {
		t.Errorf("got%s\nwant%s", got, want)
	}
	for _, bad := range []string{
		"close(2) FIN", "a | FIN | b", "| > |", "a | b | c | d", " | |", "| a segment with much too long a name > |",
	} {
		if _, err := parseWire(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// Each mistake in a file is reported.
func TestMistakes(t *testing.T) {
	good, err := files.ReadFile("paths/close.rst.unread.txt")
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string][2]string{
		"a second section":       {"-- wire --", "-- chain --"},
		"section en.what":        {"-- en.what --", "-- en.more --"},
		"unknown key":            {"see: ", "look: "},
		"either header lab":      {"lab: close.rst.unread\n", ""},
		"which does not exist":   {"@chain.close", "@chain.nothing"},
		"is not in the chain":    {"functions: __tcp_close", "functions: tcp_abort"},
		"no condition":           {"if data_was_unread", "data_was_unread"},
		"is not a line of the":   {"see: half-close", "see"},
		"has no direction":       {"RST >", "RST"},
		"must not be empty":      {"functions: __tcp_close > tcp_send_active_reset\n", ""},
		"unknown section":        {"-- en.avoid --", "-- en.mood --\nbad\n-- en.avoid --"},
		"is missing or empty":    {"-- chain --\n@chain.close", "-- chain --\n-- other --"},
		"paths/close.rst.unread": {"-- en.what --", ""},
	} {
		bad := strings.Replace(string(good), change[0], change[1], 1)
		if bad == string(good) {
			t.Fatalf("%q is not in the file", change[0])
		}
		if _, err := parsePage("paths", "close.rst.unread", bad); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%q: got %v", what, err)
		}
	}
	if _, err := parsePage("paths", "open.fin", string(good)); err == nil {
		t.Error("a path that is not in the table is accepted")
	}
}
