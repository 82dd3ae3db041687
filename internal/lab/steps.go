package lab

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Step is one line of a scenario's steps:
//
//	[NAME] verb args... [-> RESULT]
//	start THREAD: [NAME] verb args...
//
// NAME begins with an upper-case letter and is the socket, or the helper
// process, that acts. Verbs are in lower case; see the verb table in verbs.go.
type Step struct {
	Line int    // in the scenario's file, from 1
	Text string // as written
	Name string // "" if the verb has none
	Verb string
	Args []string
	// Want is the expected outcome: the name of an errno, EOF, or a number of
	// bytes. "" means that the call must succeed.
	Want string
	// Inner is the step that the thread of a "start" step executes.
	Inner *Step
}

// parseStep parses one line. It does not check the verb: Run does.
func parseStep(text string, line int) (Step, error) {
	st := Step{Line: line, Text: text}
	action, want, hasWant := strings.Cut(text, "->")
	st.Want = strings.TrimSpace(want)
	if hasWant && (st.Want == "" || strings.ContainsAny(st.Want, " \t")) {
		return st, fmt.Errorf("one word must follow -> in %q", text)
	}
	if rest, ok := strings.CutPrefix(action, "start "); ok {
		return parseStart(st, rest)
	}
	words := strings.Fields(action)
	if len(words) > 0 && isName(words[0]) {
		st.Name, words = words[0], words[1:]
	}
	if len(words) == 0 {
		return st, fmt.Errorf("no verb in %q", text)
	}
	st.Verb, st.Args = words[0], words[1:]
	return st, nil
}

func parseStart(st Step, rest string) (Step, error) {
	thread, action, ok := strings.Cut(rest, ":")
	thread = strings.TrimSpace(thread)
	if !ok || !isName(thread) || strings.ContainsAny(thread, " \t") {
		return st, errors.New("want start THREAD: NAME verb args")
	}
	if st.Want != "" {
		return st, errors.New("start has no outcome: write -> after wait")
	}
	inner, err := parseStep(strings.TrimSpace(action), st.Line)
	if err != nil {
		return st, err
	}
	if inner.Inner != nil {
		return st, errors.New("start within start")
	}
	st.Verb, st.Args, st.Inner = "start", []string{thread}, &inner
	return st, nil
}

// isName reports whether a word names a socket, thread or process.
func isName(word string) bool {
	for _, r := range word {
		return unicode.IsUpper(r)
	}
	return false
}
