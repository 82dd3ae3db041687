package explain

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink/table"
)

func openLibrary(t *testing.T) *Library {
	t.Helper()
	l, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Each answer is complete, and names pages that exist.
func TestAnswersAreComplete(t *testing.T) {
	l := openLibrary(t)
	if err := l.check(); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*answer){
		"has no text in zh":          func(a *answer) { a.text[Chinese] = "" },
		"the path close.rst.unheard": func(a *answer) { a.paths = append(a.paths, "close.rst.unheard") },
		"the topic weather":          func(a *answer) { a.see = []string{"weather"} },
		"leads nowhere":              func(a *answer) { a.name, a.paths, a.see, a.try = "SO_NOTHING", nil, nil, "" },
	} {
		l := openLibrary(t)
		change(l.answers[0])
		if err := l.check(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%q: got %v", what, err)
		}
	}
	for _, bad := range []string{"-- A --\nen\n", "-- A --\nmood: bad\n"} {
		if _, err := readAnswers(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// Every counter, reason, state and error that closetrace names has an answer, and every answer that looks like one
// is for one that closetrace names.
func TestAnswersMatchTables(t *testing.T) {
	l := openLibrary(t)
	var wanted []string
	for c := range events.Counters {
		wanted = append(wanted, c.String())
	}
	wanted = append(append(wanted, events.AbortFailed, "NOT_SPECIFIED"), listenCounters...)
	for _, i := range events.Paths() {
		for _, r := range i.Reasons {
			wanted = append(wanted, r.Name)
		}
	}
	for s := events.Established; s <= events.BoundInactive; s++ {
		wanted = append(wanted, s.String())
	}
	upper := regexp.MustCompile(`\bE[A-Z]{3,}\b`)
	for _, p := range slices.Concat(l.paths, l.topics) {
		for _, text := range p.sections {
			for _, word := range upper.FindAllString(text, -1) {
				if events.ErrnoNamed(word) != 0 {
					wanted = append(wanted, word)
				}
			}
		}
	}
	inDocuments := map[string]bool{"EADDRINUSE": true, "EADDRNOTAVAIL": true, "EMFILE": true} // of troubleshooting.md
	has := map[string]bool{}
	for _, a := range l.answers {
		has[a.name] = true
		looksLike := events.ErrnoNamed(a.name) != 0 || isState(a.name) || isCounter(a.name) || isReason(a.name) ||
			regexp.MustCompile(`^(TCPAbort|TCP_ABORT|TcpExt|MPTCP_RST|E[A-Z]+$)`).MatchString(a.name)
		if looksLike && !slices.Contains(wanted, a.name) && !inDocuments[a.name] {
			t.Errorf("answers.txt has %s, which closetrace does not name", a.name)
		}
	}
	for _, name := range wanted {
		if !has[name] {
			t.Errorf("answers.txt lacks %s", name)
		}
	}
	if len(wanted) < 100 {
		t.Errorf("only %d names were found", len(wanted))
	}
}

// Answers, groups and lists of pages fit their width, whose Chinese has no blank beside punctuation.
func TestAnswersFit(t *testing.T) {
	l := openLibrary(t)
	blank := regexp.MustCompile(`[，。；：？！、）》」』”] +\S|\S +[（《「『，。；：？！、）]`)
	for _, name := range append(l.Names(), "tcp_retries2", "SO_REUSEPORT") {
		for _, language := range Languages {
			for _, width := range []int{0, 80, 200} {
				text := l.Explain(name, Layout{Language: language, Width: width})
				if text == "" || strings.Contains(text, "复位") { // the sentences of WHY say 重置
					t.Errorf("%s in %s: got %q", name, language, text)
				}
				for line := range strings.Lines(text) {
					if n := table.Width(strings.TrimRight(line, "\n")); n > 80 {
						t.Errorf("%s in %s: %d columns: %s", name, language, n, line)
					}
					if language == Chinese && !strings.HasPrefix(line, "    ") && blank.MatchString(line) {
						t.Errorf("%s: %s", name, line)
					}
				}
			}
		}
	}
}

// What people type leads to an answer.
func TestExplain(t *testing.T) {
	l := openLibrary(t)
	for typed, want := range map[string]string{
		"close.rst":                "close.rst: paths that begin",
		"close.rst.*":              "close.rst: paths that begin",
		"close":                    "close: close(2): the last reference",
		"recv.":                    "recv: a FIN, a RST",
		"close.silent.closed":      "close.silent.closed: already closed; cause",
		"close.silent.closed.*":    "close.silent.closed: paths that begin",
		"close-wait":               "close-wait: why CLOSE_WAIT piles up",
		"CLOSE-WAIT":               "CLOSE_WAIT: TCP state",
		"tcp_close_wait":           "CLOSE_WAIT: TCP state",
		"estab":                    "ESTABLISHED: TCP state",
		"FIN-WAIT-1":               "FIN_WAIT1: TCP state",
		"econnreset":               "ECONNRESET: connection reset by peer (errno 104)",
		"Connection reset by peer": "ECONNRESET: ",
		"connection   refused":     "",
		"TcpExtTCPAbortOnClose":    "TCPAbortOnClose: kernel counter",
		"tcpabortonclose":          "TCPAbortOnClose: kernel counter",
		"OutRsts":                  "TcpOutRsts: kernel counter",
		"TcpExtListenOverflows":    "ListenOverflows: kernel counter",
		"ListenDrops":              "ListenDrops: kernel counter",
		"SK_RST_REASON_TCP_STATE":  "TCP_STATE: the kernel's reason",
		"so_linger":                "SO_LINGER: socket option",
		"TCP_KEEPCNT":              "SO_KEEPALIVE: socket option",
		"tcp_send_active_reset":    "tcp_send_active_reset: named by these pages",
		"[Errno 32] Broken pipe":   "EPIPE: ",
		"Error: read ECONNRESET":   "ECONNRESET: ",
		"writev() failed (104: Connection reset by peer)":                              "ECONNRESET: ",
		"dial tcp 10.0.0.9:443: connect: connection refused":                           "ECONNREFUSED: ",
		"read tcp 10.0.0.5:33042->10.0.0.9:443: read: connection reset by peer":        "ECONNRESET: ",
		"upstream timed out (110: Connection timed out) while reading response header": "upstream timed out: as i/o timeout, printed by Go",
		"upstream prematurely closed connection while reading response header":         "upstream prematurely closed",
		"EOF": "EOF: as upstream prematurely closed connection, printed by nginx", "eof": "EOF: as ", "i/o timeout": "i/o timeout: printed by Go",
		"unexpected EOF while reading": "unexpected EOF: as ", "104": "ECONNRESET: ", "32": "EPIPE: ", "0": "", "999": "",
		"Connection reset": "ECONNRESET: ",
		"close.rts":        "", "unread": "", "nonsense": "", "": "", "web_server_3": "",
	} {
		text := l.Explain(typed, Layout{Language: English})
		if !strings.HasPrefix(text, want) || want == "" && text != "" {
			t.Errorf("%q:\n%s\nwant %q", typed, text, want)
		}
	}
	// What holds for all paths of a list is said once.
	for typed, want := range map[string]int{"EstabResets": 1, "TCPAbortOnData": 1} {
		if text := l.Explain(typed, Layout{Language: English}); strings.Count(text, "(from ESTABLISHED or CLOSE_WAIT)")+
			strings.Count(text, "(with SO_LINGER {1,0})") < want || strings.Count(text, "(from ESTABLISHED") > 1 {
			t.Errorf("%s:\n%s", typed, text)
		}
	}
	near := Suggest("close.rts", l.Names())
	if !slices.Equal(near, []string{"close.rst"}) {
		t.Errorf("close.rts: %q", near)
	}
	if near := Suggest("ECONRESET", l.Names()); !slices.Equal(near, []string{"ECONNRESET"}) {
		t.Errorf("ECONRESET: %q", near)
	}
}

// Both languages of a page name the same errors, so that the lists of paths hold for both.
func TestErrorsInEachLanguage(t *testing.T) {
	upper := regexp.MustCompile(`\bE[A-Z]{3,}\b`)
	for _, p := range openLibrary(t).paths {
		for _, section := range []string{"here", "peer"} {
			en, zh := p.text(English, section), p.text(Chinese, section)
			for _, word := range append(upper.FindAllString(en, -1), upper.FindAllString(zh, -1)...) {
				if events.ErrnoNamed(word) != 0 && names(en, word) != names(zh, word) {
					t.Errorf("%s: only one language has %s in %s", p.Name, word, section)
				}
			}
		}
	}
}

// Headings are bold on request, and nothing else changes.
func TestBold(t *testing.T) {
	l := openLibrary(t)
	for _, name := range []string{"close.rst.unread", "linger", "close.rst", "EPIPE", ""} {
		text := func(o Layout) string {
			if name == "" {
				return l.Index(o)
			}
			return l.Explain(name, o)
		}
		plain, bold := text(Layout{Language: English}), text(Layout{Language: English, Bold: true})
		if strings.NewReplacer("\x1b[1m", "", "\x1b[22m", "").Replace(bold) != plain || bold == plain {
			t.Errorf("%s:\n%q", name, bold)
		}
	}
}
