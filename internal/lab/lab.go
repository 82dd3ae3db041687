// Package lab provokes every way a TCP connection can end, with real sockets in
// a private network namespace, and compares the endings that a tracer saw with
// those that it must see: these, and no others.
//
// It does not use BPF or the types of a tracer. A scenario is a text file in
// scenarios/. The same file is run live, compared with recorded events, and run
// on every kernel of the microVM matrix.
//
// Reading and comparing scenarios works on any OS; running them needs Linux.
package lab

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"
)

//go:embed scenarios/*.txtar
var files embed.FS

// extension is the extension of the files of scenarios.
const extension = ".txtar"

// Scenarios returns all scenarios, sorted by name.
func Scenarios() ([]*Scenario, error) {
	entries, err := files.ReadDir("scenarios")
	if err != nil {
		return nil, err
	}
	var all []*Scenario
	for _, e := range entries {
		sc, err := Find(strings.TrimSuffix(e.Name(), extension))
		if err != nil {
			return nil, err
		}
		all = append(all, sc)
	}
	slices.SortFunc(all, func(a, b *Scenario) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Find returns the scenario of this name.
func Find(name string) (*Scenario, error) {
	data, err := files.ReadFile(path.Join("scenarios", name+extension))
	if err != nil {
		return nil, fmt.Errorf("no scenario %q", name)
	}
	return Parse(name, data)
}
