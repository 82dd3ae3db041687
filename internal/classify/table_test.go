package classify

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

var update = flag.Bool("update", false, "write testdata/table.txt")

const golden = "testdata/table.txt"

// testdata/table.txt is the order in which the rules are tried: the kind of
// event, the condition of the group, the path and the condition of the rule.
func TestTable(t *testing.T) {
	var b strings.Builder
	for _, g := range table {
		fmt.Fprintf(&b, "%s, %s\n", g.kind, nameOf(t, g.when))
		for _, r := range g.rules {
			fmt.Fprintf(&b, "    %s: %s%s\n", r.path, nameOf(t, r.when), calledBy(t, &r))
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, listed := strings.SplitAfter(b.String(), "\n"), strings.SplitAfter(string(want), "\n")
	for i := range min(len(got), len(listed)) {
		if got[i] != listed[i] {
			t.Fatalf("line %d of %s is\n%sbut the table has\n%s(go test ./internal/classify -update writes it anew)",
				i+1, golden, listed[i], got[i])
		}
	}
	if len(got) != len(listed) {
		t.Errorf("%s has %d lines, the table %d", golden, len(listed), len(got))
	}
}

func calledBy(t *testing.T, r *rule) string {
	if len(r.calledBy) == 0 {
		return ""
	}
	return fmt.Sprintf(", called by %s, without a stack %s", strings.Join(r.calledBy, " or "), nameOf(t, r.otherwise))
}

var predicateName = regexp.MustCompile(`classify\.(?:\(\*fact\)\.)?(\w+)$`)

// nameOf returns the name of a predicate. A closure has none.
func nameOf(t *testing.T, p predicate) string {
	t.Helper()
	name := runtime.FuncForPC(reflect.ValueOf(p).Pointer()).Name()
	m := predicateName.FindStringSubmatch(name)
	if m == nil {
		t.Fatalf("the predicate %s has no name", name)
	}
	return m[1]
}

// Each kind of event that ends something has rules, and each rule is complete.
func TestTableIsComplete(t *testing.T) {
	kinds := map[events.Kind]bool{
		events.KindWaitOver: true, // changes only how long a close waits
		events.KindLoss:     true, // makes verdicts inferred
	}
	for _, g := range table {
		kinds[g.kind] = true
		for _, r := range g.rules {
			if r.title == "" || len([]rune(r.title)) > 20 || r.why == nil || (r.calledBy == nil) != (r.otherwise == nil) {
				t.Errorf("%s, %s: %q", g.kind, r.path, r.title)
			}
		}
	}
	for kind := events.KindClose; kind.Valid(); kind++ {
		if !kinds[kind] {
			t.Errorf("no rules for %s", kind)
		}
	}
}
