// Package config sets the flags of a command from a YAML file.
//
// Each key of the file is a flag without its dashes, and its value is what the flag takes, so that the file and the
// command line have the same names, values and errors. A list may be a sequence. A flag that is on the command line
// has the value from there.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"

	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/regular"
)

// maxSize is the number of bytes of a file: no configuration is larger.
const maxSize = 64 << 10

// Settings are the flags of a command and the texts that they were set to.
type Settings struct {
	flags *pflag.FlagSet
	texts map[string][]string // by the name of the flag
	given []string            // the names of those on the command line
	path  string              // of the file
	keys  map[string]*entry   // of the file, by name
}

// entry is a key of the file that a flag of the command line does not overrule.
type entry struct {
	node    *yaml.Node
	mistake bool
}

// New returns the settings of flags, none of which is set yet.
func New(flags *pflag.FlagSet) *Settings {
	s := &Settings{flags: flags, texts: map[string][]string{}, keys: map[string]*entry{}}
	flags.VisitAll(func(f *pflag.Flag) { f.Value = &noted{f.Value, f.Name, s} })
	return s
}

// noted is the value of a flag, of which the texts that it is set to are kept.
type noted struct {
	pflag.Value
	name string
	in   *Settings
}

// Set sets the flag.
func (n *noted) Set(text string) error {
	err := n.Value.Set(text)
	if err == nil {
		n.in.texts[n.name] = append(n.in.texts[n.name], text)
	}
	return err
}

// Given says that the flags that are set so far are those of the command line.
func (s *Settings) Given() { s.given = slices.Sorted(maps.Keys(s.texts)) }

// Repeat sets flags to what they are on the command line of other settings, of the same command.
func (s *Settings) Repeat(of *Settings) error {
	for _, name := range of.given {
		for _, text := range of.texts[name] {
			if err := s.flags.Set(name, text); err != nil {
				return err
			}
		}
	}
	s.Given()
	return nil
}

// Changed returns the names of the flags that differ from other settings.
func (s *Settings) Changed(from *Settings) []string {
	var names []string
	s.flags.VisitAll(func(f *pflag.Flag) {
		if !slices.Equal(s.texts[f.Name], from.texts[f.Name]) {
			names = append(names, f.Name)
		}
	})
	return names
}

// ReadFile sets the flags that the file at path has, except for those on the command line and those that are only for
// it. It returns every mistake, each with its line.
//
// It follows links, because those of a Kubernetes ConfigMap are some. It does not block: what a link leads to must be a
// regular file.
func (s *Settings) ReadFile(path string, onlyGiven ...string) []error {
	const example = "docs/serve.md has an example of a configuration"
	file, err := regular.Open(path)
	if err != nil {
		return []error{hint.New(hint.Usage, err.Error(), example)}
	}
	defer file.Close()
	if err := checkFile(file); err != nil {
		return []error{err}
	}
	text, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	switch {
	case err != nil:
		return []error{hint.New(hint.Usage, err.Error(), example)}
	case len(text) > maxSize:
		return []error{hint.New(hint.Usage, fmt.Sprintf("%s has more than %d KB", path, maxSize>>10),
			"name a configuration, which is smaller")}
	}
	return s.read(path, text, onlyGiven)
}

// checkFile returns an error for a file that any user may change.
func checkFile(file *os.File) error {
	info, err := file.Stat()
	switch {
	case err != nil:
		return err
	case info.Mode().Perm()&0o002 != 0:
		return hint.New(hint.Usage, "every user may write to "+file.Name(), "chmod o-w "+file.Name())
	}
	return nil
}

// At returns a mistake in how keys go together, with the line of the first of them that the file has. It returns nil
// for nil, and also if one of them has a mistake of its own, because what depends on it is not known then.
func (s *Settings) At(mistake error, names ...string) error {
	var first *entry
	for _, name := range names {
		switch k := s.keys[name]; {
		case k == nil:
		case k.mistake:
			return nil
		case first == nil:
			first = k
		}
	}
	if mistake == nil || first == nil {
		return mistake
	}
	return at(s.path, first.node, mistake)
}

// read sets flags from the text of a file.
func (s *Settings) read(path string, text []byte, onlyGiven []string) (mistakes []error) {
	s.path = path
	keys, err := mapping(text)
	if err != nil {
		return []error{&hint.Error{Kind: hint.Usage, What: path, Err: err, Hint: "write one KEY: VALUE a line"}}
	}
	seen := map[string]int{}
	for i := 0; i < len(keys); i += 2 {
		key, value := keys[i], keys[i+1]
		err := s.set(key, value, seen, onlyGiven)
		if err != nil {
			mistakes = append(mistakes, at(path, key, err))
		}
		seen[key.Value] = key.Line
		s.note(key, err != nil)
	}
	return mistakes
}

// note keeps where a key is.
func (s *Settings) note(node *yaml.Node, mistake bool) {
	switch k := s.keys[node.Value]; {
	case k != nil:
		k.mistake = k.mistake || mistake
	case !slices.Contains(s.given, node.Value):
		s.keys[node.Value] = &entry{node, mistake}
	}
}

// located is an error of a line.
type located struct {
	error
	line int
}

// Unwrap returns the error.
func (l located) Unwrap() error { return l.error }

// at returns an error with its line.
func at(path string, n *yaml.Node, err error) error {
	where := fmt.Sprintf("%s:%d", path, n.Line)
	return located{&hint.Error{Kind: hint.Usage, What: where, Err: err, Hint: hint.Of(err)}, n.Line}
}

// Join returns all mistakes in the order of their lines, and those of no line after them; nil for none.
func Join(mistakes ...error) error {
	line := func(err error) int {
		var l located
		if errors.As(err, &l) {
			return l.line
		}
		return math.MaxInt
	}
	slices.SortStableFunc(mistakes, func(a, b error) int { return cmp.Compare(line(a), line(b)) })
	return hint.As(hint.Usage, errors.Join(mistakes...))
}

// mapping parses the text of a file: keys and values in turn.
func mapping(text []byte) ([]*yaml.Node, error) {
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	var document, more yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil // empty
	case err != nil:
		return nil, err
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("it has more than one document")
	}
	root := document.Content[0]
	switch {
	case root.Kind == yaml.ScalarNode && root.Tag == "!!null":
		return nil, nil // only comments
	case root.Kind != yaml.MappingNode:
		return nil, fmt.Errorf("line %d is not KEY: VALUE", root.Line)
	}
	return root.Content, nil
}

// set sets the flag of a key, unless it is on the command line. seen has the lines of the keys before it.
func (s *Settings) set(key, value *yaml.Node, seen map[string]int, onlyGiven []string) error {
	if key.Kind != yaml.ScalarNode {
		return hint.New(hint.Usage, "the key is not a word", "keys are the flags of closetrace serve")
	}
	flag := s.flags.Lookup(key.Value)
	if flag == nil || slices.Contains(onlyGiven, key.Value) {
		return s.unknown(key.Value, onlyGiven)
	}
	if line := seen[key.Value]; line > 0 {
		return hint.New(hint.Usage, fmt.Sprintf("%s is on line %d as well", key.Value, line), "leave out one of them")
	}
	texts, err := textsOf(value, strings.HasPrefix(flag.Value.Type(), "LIST"))
	if err != nil {
		return hint.New(hint.Usage, fmt.Sprintf("%s: %v", key.Value, err), "write "+key.Value+": VALUE")
	}
	given := slices.Contains(s.given, key.Value)
	for _, text := range texts {
		if err := s.try(flag, text, given); err != nil {
			return err
		}
	}
	return nil
}

// try sets a flag. One that is given keeps its value, and the text is not checked.
func (s *Settings) try(flag *pflag.Flag, text string, given bool) error {
	if given {
		return nil
	}
	err := s.flags.Set(flag.Name, text)
	if err == nil {
		return nil
	}
	var usage *hint.Error
	if errors.As(err, &usage) {
		return hint.New(hint.Usage, flag.Name+": "+usage.What, usage.Hint)
	}
	value, what := pflag.UnquoteUsage(flag)
	next := fmt.Sprintf("%s: %s: %s", flag.Name, value, what)
	if flag.Value.Type() == "bool" { // its usage names no value
		next = "use true or false"
	}
	return hint.New(hint.Usage, fmt.Sprintf("invalid value %q for %s", text, flag.Name), next)
}

// unknown returns the error for a key that is no flag.
func (s *Settings) unknown(key string, onlyGiven []string) error {
	if slices.Contains(onlyGiven, key) {
		return hint.New(hint.Usage, fmt.Sprintf("%s is only for the command line", key), "leave it out")
	}
	var known []string
	s.flags.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(onlyGiven, f.Name) {
			known = append(known, f.Name)
		}
	})
	return hint.New(hint.Usage, fmt.Sprintf("unknown key %q", key),
		flagvalue.Suggest(key, known, "keys are the flags of closetrace serve"))
}

// textsOf returns the texts of a value: one or, if the flag takes a list, those of a list.
func textsOf(value *yaml.Node, isList bool) ([]string, error) {
	switch {
	case value.Kind == yaml.ScalarNode && value.Tag == "!!null":
		return nil, errors.New("it has no value")
	case value.Kind == yaml.ScalarNode:
		return []string{value.Value}, nil
	case value.Kind == yaml.SequenceNode && !isList:
		return nil, errors.New("it takes one value, not a list")
	case value.Kind != yaml.SequenceNode:
		return nil, errors.New("the value is neither a word nor a list of words")
	}
	var texts []string
	for _, item := range value.Content {
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			return nil, errors.New("an item of the list is not a word")
		}
		texts = append(texts, item.Value)
	}
	return texts, nil
}
