package lab

import (
	"net/netip"
	"strings"
	"testing"
)

func TestCompareStuck(t *testing.T) {
	a := Endpoint{Local: netip.MustParseAddrPort("127.0.0.1:1"), Remote: netip.MustParseAddrPort("127.0.0.1:2")}
	res := &Result{Sockets: map[string]Endpoint{"A": a, "B": a.swap()}}
	sc := parse(t, "# T.\n-- steps --\n-- endings --\n-- stuck --\nA peer-open\nB leaked\n")
	open, leaked := StuckSeen{a, "peer-open"}, StuckSeen{a.swap(), "leaked"}
	other := StuckSeen{Endpoint{a.Local, a.Local}, "leaked"}
	for _, c := range []struct {
		found []StuckSeen
		want  string
	}{
		{[]StuckSeen{leaked, open}, ""},
		{[]StuckSeen{open}, "line 6: expected B leaked; it is not there"},
		{[]StuckSeen{open, {a.swap(), "not-reading"}}, "line 6: expected B leaked; it is not-reading"},
		{[]StuckSeen{open, leaked, other}, "not expected to be stuck: leaked of 127.0.0.1:1 to 127.0.0.1:1"},
	} {
		var got []string
		for _, m := range CompareStuck(sc, res, c.found) {
			got = append(got, m.String())
		}
		if strings.Join(got, ";") != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	silent := parse(t, "# T.\n-- steps --\n-- endings --\n")
	if wrong := CompareStuck(silent, res, []StuckSeen{other}); wrong != nil {
		t.Errorf("not about it, and yet %v", wrong)
	}
}
