package enrich

import (
	"fmt"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

func TestHolders(t *testing.T) {
	tr := newTree(t)
	tr.process(4211, "nginx", 55, 56, 55)
	tr.process(31, "a) b\n(c", 55)
	tr.write(map[string]string{
		"4211/fd/10":        "-> socket:[57]", // not wanted
		"4211/fd/x":         "-> socket:[55]",
		"502/fd/3":          "-> socket:[55]", // vanished
		"504/comm":          "leader ended\n",
		"504/stat":          "504 (leader ended) S 31 1",
		"504/task/507/fd/7": "-> socket:[58]",
	})
	const age = time.Minute
	found, hidden := holdersAt(tr.root, map[uint64]bool{55: true, 56: true, 58: true, 59: true}, scanBegins+age)
	nginx := events.Task{PID: 4211, TID: 4211, UID: 33, Comm: "nginx"}
	other := events.Task{PID: 31, TID: 31, UID: 33, Comm: "a) b\n(c"}
	leader := events.Task{PID: 504, TID: 504, Comm: "leader ended"}
	want := map[uint64][]Holder{
		55: {{Task: other, Parent: 1, Age: age, FDs: []int{3}}, {Task: nginx, Parent: 1, Age: age, FDs: []int{3, 5}}},
		56: {{Task: nginx, Parent: 1, Age: age, FDs: []int{4}}},
		58: {{Task: leader, Parent: 31, Age: scanBegins + age, FDs: []int{7}}},
	}
	if !reflect.DeepEqual(found, want) || hidden != 0 {
		t.Errorf("got %s\nand %d hidden, want\n%s", fmt.Sprint(found), hidden, fmt.Sprint(want))
	}
}

func TestNoHolders(t *testing.T) {
	tr := newTree(t)
	tr.process(7, "x", 55)
	if found, _ := Holders(tr.root, nil); len(found) != 0 {
		t.Errorf("found what nobody wanted: %v", found)
	}
	if found, hidden := Holders(filepath.Join(tr.root, "none"), map[uint64]bool{55: true}); len(found) != 0 || hidden != 0 {
		t.Errorf("found %v, %d hidden", found, hidden)
	}
}
