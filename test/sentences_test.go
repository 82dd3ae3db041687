package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/bothends"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/explain/sentence"
	"github.com/closetrace/closetrace/internal/sink/table"
	"github.com/closetrace/closetrace/internal/why"
)

const sentencesFile = "../internal/explain/sentence/sentences.txt"

// inChinese are the English words that sentences in Chinese have: names of calls, programs and options.
var inChinese = regexp.MustCompile(`(?i)^(?:` + strings.Join([]string{
	"close", "shutdown", "connect", "accept", "recv", "send", "execve", "dup2", "netfilter", "reject", "conntrack", "pacing",
	"oom", "killer", "exec", "on", "tls", "notify", "xdp", "mtu", "syn", "ack", "fin", "rst", "tcp", "icmp", "icmpv6", "mptcp",
	"ttl", "ip", "id", "sack", "io", "uring", "ss", "af", "unspec", "linger", "eof", "socket", "kernel", "closetrace", "explain",
	"cap", "syslog", "tracepoint", "mode", "max", "orphans", "mem", "abort", "overflow", "scm", "rights", "sock", "destroy",
	"estabresets", "all", "so", "shut", "rd", "wr", "user", "timeout", "wait", "done", "ms", "utc", "lingering", "epoll",
	"file", "why", "from", "w", "linger2", "reuseport", "repair", "mss", "wscale", "timestamp", "none",
}, "|") + `)$`)

// englishIn returns an English word that a sentence in Chinese should not have, or "".
func englishIn(text string) string {
	text = regexp.MustCompile(`[^\s（，；：]+\[[0-9]+\]|执行了 \S+|[a-z]+(?:\.[a-z0-9-]+)+`).ReplaceAllString(text, "") // names and paths
	for _, word := range regexp.MustCompile(`[A-Za-z][A-Za-z0-9]*`).FindAllString(text, -1) {
		if len(word) > 1 && strings.ToUpper(word) != word && !inChinese.MatchString(word) {
			return word
		}
	}
	return ""
}

// Every WHY of the recorded scenarios, and every reason for a doubt, has a Chinese form, with the same numbers.
func TestCausesInChinese(t *testing.T) {
	numbers := regexp.MustCompile(`[0-9][0-9,.]*[0-9]|[0-9]`)
	seen := map[string]bool{}
	recordedEndings(t, func(e *events.Ending) {
		for _, english := range []string{e.Cause, e.Doubt} {
			if english == "" || seen[english] {
				continue
			}
			seen[english] = true
			chinese := sentence.Chinese(english)
			if isErrno := regexp.MustCompile(`^E[A-Z]+$|→`).MatchString(english); chinese == english && !isErrno {
				t.Errorf("%s: %q is not in %s", e.Path, english, sentencesFile)
			}
			if word := englishIn(chinese); word != "" {
				t.Errorf("%q: %q is English in %q", english, word, chinese)
			}
			count := map[string]int{}
			for _, n := range numbers.FindAllString(english, -1) {
				count[n]++
			}
			for _, n := range numbers.FindAllString(chinese, -1) {
				count[n]--
			}
			for n, difference := range count {
				if difference != 0 {
					t.Errorf("%q and %q have %q not as often", english, chinese, n)
				}
			}
		}
	})
	if len(seen) < 200 {
		t.Errorf("only %d texts", len(seen))
	}
}

// What an ending says of the other host has a Chinese form: of the recorded scenarios, as if each end were on its own
// host.
func TestBothEndsInChinese(t *testing.T) {
	joined := map[string]bool{}
	for _, section := range recordings(t) {
		j := bothends.New([]bothends.Recording{
			{Header: events.Header{Host: "web1", BootID: "a"}}, {Header: events.Header{Host: "db1", BootID: "b"}},
		})
		all := endingsOf(t, section)
		var at, next [2]int
		hostOf := func(e *events.Ending) int { return (e.Local.Compare(e.Remote) + 1) / 2 }
		for _, e := range all {
			e.Peer = nil
			j.Add(hostOf(e), e)
		}
		r := j.Conclude()
		for _, e := range all {
			host, before := hostOf(e), e.Cause
			at[host], next[host] = next[host], next[host]+1
			r.Complete(host, at[host], e)
			if said, isJoined := strings.CutPrefix(e.Cause, before+"; "); isJoined {
				joined[said] = true
			}
		}
	}
	for english := range joined {
		chinese := sentence.Chinese(english)
		if word := englishIn(strings.NewReplacer("web1", "", "db1", "").Replace(chinese)); chinese == english || word != "" {
			t.Errorf("%q is %q in Chinese", english, chinese)
		}
	}
	if len(joined) < 20 {
		t.Errorf("only %d texts", len(joined))
	}
}

// The rules say nothing that has no Chinese form: each text of package classify that becomes part of a cause or a doubt
// is in a sentence.
func TestWordsOfRulesInChinese(t *testing.T) {
	var english strings.Builder
	part, errno := regexp.MustCompile(`\{[a-z]+[0-9]?\}`), regexp.MustCompile(`\bE[A-Z]{4,}\b`)
	for line := range strings.Lines(readFile(t, sentencesFile)) {
		if text, ok := strings.CutPrefix(line, "en: "); ok {
			text = strings.NewReplacer("(s)", "", "(y|ies)", "y").Replace(strings.TrimSuffix(text, "\n"))
			english.WriteString("\n; " + part.ReplaceAllString(text, "\x00") + "; ")
		}
	}
	all, texts := english.String(), 0
	for _, file := range filesUnder(t, "../internal/classify") {
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, said := range saidIn(t, file) {
			for _, piece := range strings.Split(strings.Trim(said, "[]"), "; ") {
				piece = strings.TrimRight(piece, " ")
				withoutErrno := errno.ReplaceAllString(piece, "\x00")
				if !strings.Contains(all, piece) && !strings.Contains(all, withoutErrno) {
					t.Errorf("%s: %q of %q is not in %s", file, piece, said, sentencesFile)
				}
			}
			texts++
		}
	}
	if texts < 200 {
		t.Errorf("only %d texts were found", texts)
	}
	for _, path := range events.Paths() {
		if title := path.Title; sentence.Chinese(title) == title && title != "EPIPE" &&
			!regexp.MustCompile(`^(?:shutdown|MPTCP) → `).MatchString(title) {
			t.Errorf("the title %q of %s is not in %s", title, path.Path, sentencesFile)
		}
	}
}

// Each text of package stuck that becomes part of a reason is in a sentence, piece by piece.
func TestWordsOfStuckInChinese(t *testing.T) {
	sentences, texts := readFile(t, sentencesFile), 0
	variable := regexp.MustCompile(`%\+?[a-z]|; `)
	for _, file := range []string{"diagnosis.go", "process.go", "stuck.go"} {
		for _, said := range reasonsIn(t, filepath.Join("../internal/stuck", file)) {
			for _, piece := range variable.Split(said, -1) {
				piece = strings.Trim(piece, " ,:;[]()")
				piece = strings.NewReplacer("listeners", "listener", "retransmissions", "retransmission",
					"does not accept", "not accept", "do not accept", "not accept").Replace(piece)
				if !strings.Contains(sentences, piece) {
					t.Errorf("%s: %q of %q is not in %s", file, piece, said, sentencesFile)
				}
			}
			texts++
		}
	}
	if texts < 30 {
		t.Errorf("only %d texts were found", texts)
	}
}

// reasonsIn returns the texts of a file of package stuck that have a blank: reasons.
func reasonsIn(t *testing.T, file string) (texts []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec, *ast.StructType:
			return false
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING && strings.Contains(text, " ") {
				texts = append(texts, text)
			}
		}
		return true
	})
	return texts
}

// saidIn returns the texts of a file of package classify that become part of a cause or a doubt.
func saidIn(t *testing.T, file string) (texts []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	add := func(n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				text, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				texts = append(texts, text)
			}
			return true
		})
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			method, ok := n.Fun.(*ast.SelectorExpr)
			if ok && (method.Sel.Name == "text" || method.Sel.Name == "count") {
				for _, argument := range n.Args {
					if _, isLiteral := argument.(*ast.BasicLit); isLiteral {
						add(argument)
					}
				}
			}
		case *ast.KeyValueExpr:
			if name, ok := n.Key.(*ast.Ident); ok && name.Name == "doubt" {
				add(n.Value)
			}
		case *ast.GenDecl:
			if filepath.Base(file) == "icmp.go" && n.Tok == token.VAR {
				add(n)
			}
		}
		return true
	})
	return texts
}

// Each answer about a recorded scenario is in Chinese as a whole, and fits the terminal.
func TestAnswersInChinese(t *testing.T) {
	library, err := explain.Open()
	if err != nil {
		t.Fatal(err)
	}
	eachConnection(t, func(name string, c *why.Collector, _ []*events.Ending) {
		text := c.Print(library, why.Layout{Width: 80, Language: explain.Chinese})
		before, _, _ := strings.Cut(text, "\n如何避免\n")
		for line := range strings.Lines(text) {
			if w := table.Width(strings.TrimSuffix(line, "\n")); w > 80 {
				t.Errorf("%s: %d cells: %s", name, w, line)
			}
		}
		for line := range strings.Lines(before) {
			if word := englishIn(line); word != "" {
				t.Errorf("%s: %q is English in %s", name, word, line)
			}
		}
	})
}
