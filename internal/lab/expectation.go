package lab

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Expectation is one ending that must be seen:
//
//	[MODE,MODE?] SOCKET PATH KEY=VALUE...
//
// The modes are optional: without them the ending is expected in every mode. A
// "?" after a mode says that there it depends on the kernel whether the ending
// can be seen.
type Expectation struct {
	Line  int
	Modes []string
	// May are the modes with a "?", in which the ending may be missing.
	May    []string
	Socket string
	Path   string
	Fields []FieldWant
}

// FieldWant is what one field of an ending's JSON form must be. Key is looked
// up at the top level, then in evidence, state and actor; earlier.path,
// peer.actor.pid and the like go inside. Value is
//
//	text   this text, number or boolean (false and 0 also match no such field)
//	>=N    at least N; <=N at most N
//	A..B   a number from A to B
//	a|b    one of these
//	@NAME  the id of this helper process or thread of the scenario
//	~text  contains this text, in which _ stands for a blank
type FieldWant struct{ Key, Value string }

func (e Expectation) String() string {
	words := []string{e.Socket, e.Path}
	for _, f := range e.Fields {
		words = append(words, f.Key+"="+f.Value)
	}
	return strings.Join(words, " ")
}

func parseExpectation(text string, line int) (Expectation, error) {
	e := Expectation{Line: line}
	if rest, ok := strings.CutPrefix(text, "["); ok {
		modes, after, ok := strings.Cut(rest, "]")
		if !ok {
			return e, fmt.Errorf("no ] in %q", text)
		}
		text = after
		for mode := range strings.SplitSeq(modes, ",") {
			mode, may := strings.CutSuffix(strings.TrimSpace(mode), "?")
			if may {
				e.May = append(e.May, mode)
			}
			if !slices.Contains(Modes, mode) {
				return e, fmt.Errorf("unknown attach mode %q", mode)
			}
			e.Modes = append(e.Modes, mode)
		}
	}
	words := strings.Fields(text)
	if len(words) < 2 || !isName(words[0]) {
		return e, fmt.Errorf("want SOCKET PATH KEY=VALUE..., not %q", text)
	}
	e.Socket, e.Path = words[0], words[1]
	if !strings.Contains(e.Path, ".") {
		return e, fmt.Errorf("%q is not a path: it has no family before a dot", e.Path)
	}
	for _, word := range words[2:] {
		key, value, ok := strings.Cut(word, "=")
		if !ok || key == "" || value == "" {
			return e, fmt.Errorf("want KEY=VALUE, not %q", word)
		}
		if err := checkValue(value); err != nil {
			return e, err
		}
		e.Fields = append(e.Fields, FieldWant{key, value})
	}
	return e, nil
}

// checkValue returns an error for malformed bounds, which would otherwise look
// like an ending that differs.
func checkValue(value string) error {
	var bounds []string
	if rest, ok := strings.CutPrefix(value, ">="); ok {
		bounds = []string{rest}
	} else if rest, ok := strings.CutPrefix(value, "<="); ok {
		bounds = []string{rest}
	} else if low, high, ok := strings.Cut(value, ".."); ok {
		bounds = []string{low, high}
	}
	for _, b := range bounds {
		if _, err := strconv.ParseInt(b, 10, 64); err != nil {
			return fmt.Errorf("%q is not a whole number in %q", b, value)
		}
	}
	return nil
}

// matches reports whether a field's text is what is wanted. ids are the process and thread ids for @NAME; every id
// matches one that is 0, which is not known.
func (f FieldWant) matches(got string, ids map[string]int) bool {
	if name, ok := strings.CutPrefix(f.Value, "@"); ok {
		id, ok := ids[name]
		if ok && id == 0 {
			return inRange(got, "1", "")
		}
		return ok && got == strconv.Itoa(id)
	}
	if text, ok := strings.CutPrefix(f.Value, "~"); ok {
		return strings.Contains(got, strings.ReplaceAll(text, "_", " "))
	}
	if rest, ok := strings.CutPrefix(f.Value, ">="); ok {
		return inRange(got, rest, "")
	}
	if rest, ok := strings.CutPrefix(f.Value, "<="); ok {
		return inRange(got, "", rest)
	}
	if low, high, ok := strings.Cut(f.Value, ".."); ok {
		return inRange(got, low, high)
	}
	return slices.Contains(strings.Split(f.Value, "|"), got)
}

// inRange compares whole numbers; an empty bound is no bound.
func inRange(got, low, high string) bool {
	n, err := strconv.ParseInt(got, 10, 64)
	if err != nil {
		return false
	}
	if bound, err := strconv.ParseInt(low, 10, 64); low != "" && (err != nil || n < bound) {
		return false
	}
	bound, err := strconv.ParseInt(high, 10, 64)
	return high == "" || err == nil && n <= bound
}

// lookup returns the text of a field of an ending and whether it has one.
func lookup(fields map[string]any, key string) (string, bool) {
	if v, ok := fields[key]; ok {
		return fieldText(v), true
	}
	for _, part := range []string{"evidence", "state", "actor"} {
		if inner, ok := fields[part].(map[string]any); ok {
			if v, ok := inner[key]; ok {
				return fieldText(v), true
			}
		}
	}
	outer, inner, ok := strings.Cut(key, ".")
	if within, isObject := fields[outer].(map[string]any); ok && isObject {
		return lookup(within, inner)
	}
	return "", false
}

// fieldText returns a decoded JSON value as scenarios write it.
func fieldText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case json.Number:
		return v.String()
	}
	return fmt.Sprint(v)
}
