package enrich

import (
	"fmt"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/sockets"
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
	found, hidden := holdersAt(tr.root, sockets.NewInodes([]uint64{55, 56, 58, 59}), scanBegins+age)
	nginx := func(fds ...int) sockets.Holder {
		return sockets.Holder{PID: 4211, UID: 33, Comm: "nginx", Parent: 1, Age: age, FDs: fds}
	}
	want := map[uint64][]sockets.Holder{
		55: {{PID: 31, UID: 33, Comm: "a) b\n(c", Parent: 1, Age: age, FDs: []int{3}}, nginx(3, 5)},
		56: {nginx(4)},
		58: {{PID: 504, Comm: "leader ended", Parent: 31, Age: scanBegins + age, FDs: []int{7}}},
	}
	for inode := range uint64(60) {
		if got := found.Of(inode); !reflect.DeepEqual(got, want[inode]) {
			t.Errorf("of %d: got %s, want\n%s", inode, fmt.Sprint(got), fmt.Sprint(want[inode]))
		}
	}
	if hidden != 0 {
		t.Errorf("%d hidden", hidden)
	}
}

func TestNoHolders(t *testing.T) {
	tr := newTree(t)
	tr.process(7, "x", 55)
	if found, _ := Holders(tr.root, sockets.Inodes{}); found.Of(55) != nil {
		t.Errorf("found what was not asked for: %v", found.Of(55))
	}
	if found, hidden := Holders(filepath.Join(tr.root, "none"), sockets.NewInodes([]uint64{55})); found.Of(55) != nil ||
		hidden != 0 {
		t.Errorf("found %v, %d hidden", found.Of(55), hidden)
	}
}
