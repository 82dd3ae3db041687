package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/stuck"
)

// Each path, state and diagnosis in the rules, queries and dashboards of deploy/ exists: an alert on a name that does
// not would never fire.
func TestDeployedNamesExist(t *testing.T) {
	var paths []string
	for _, p := range events.Paths() {
		paths = append(paths, string(p.Path))
	}
	var diagnoses []string
	for _, d := range []stuck.Diagnosis{
		stuck.NeverAccepted, stuck.QueueFull, stuck.Leaked, stuck.NotReading, stuck.BusySending, stuck.ForkedChild,
		stuck.Inherited, stuck.PeerSilent, stuck.PeerOpen,
	} {
		diagnoses = append(diagnoses, string(d))
	}
	states := []string{"CLOSE_WAIT", "FIN_WAIT1", "FIN_WAIT2", "CLOSING", "LAST_ACK", "LISTEN"}
	matcher := regexp.MustCompile(`\b(path|diagnosis|state)(?:"?:|=)(~?)\\?"((?:[^"\\]|\\\\.)+)\\?"`)
	slug := regexp.MustCompile(`\b(?:close|shutdown|disconnect|abort|reply|recv|app)\.[a-z0-9-]+(?:\.[a-z0-9-]+)*`)
	found := 0
	err := filepath.WalkDir("../deploy", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, m := range matcher.FindAllStringSubmatch(string(text), -1) {
			found++
			of := map[string][]string{"path": paths, "diagnosis": diagnoses, "state": states}[m[1]]
			pattern := regexp.QuoteMeta(m[3])
			if m[2] == "~" {
				pattern = strings.ReplaceAll(m[3], `\\`, `\`)
			}
			full, err := regexp.Compile("^(?:" + pattern + ")$")
			if err != nil || !slices.ContainsFunc(of, full.MatchString) {
				t.Errorf("%s: no %s is %s", file, m[1], m[3])
			}
		}
		for _, name := range slug.FindAllString(strings.ReplaceAll(string(text), "app.kubernetes.io", ""), -1) {
			if !slices.ContainsFunc(paths, func(p string) bool { return p == name || strings.HasPrefix(p, name+".") }) {
				t.Errorf("%s: no path is %s", file, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 10 {
		t.Errorf("only %d names were found", found)
	}
}
