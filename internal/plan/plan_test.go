package plan

import (
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
)

func TestChoose(t *testing.T) {
	only := func(patterns ...filter.Pattern) filter.Endings { return filter.Endings{Only: patterns} }
	for _, test := range []struct {
		name            string
		shown           filter.Endings
		active, passive bool
	}{
		{"everything", filter.Endings{}, false, false},
		{"rst", only("rst"), true, true},
		{"errors as a word", only("errors"), true, true},
		{"errors", filter.Endings{Errors: true}, true, true},
		{"rst or fin", only("rst", "fin"), false, false},
		{"a family", only("close"), false, false},
		{"a path below", only("close.rst"), true, true},
		{"a pattern", only("*.active"), false, true},
		{"passive", only("close.fin.passive"), true, false},
		{"active", only("close.fin.active"), false, true},
		{"unanswered FINs", only("recv.fin"), true, false},
		{"not fin", filter.Endings{Not: []filter.Pattern{"fin"}}, true, true},
		{"not rst", filter.Endings{Not: []filter.Pattern{"rst"}}, false, false},
		{"a process", filter.Endings{PIDs: []uint32{1}}, false, false},
		{"a name", filter.Endings{Comms: []string{"nginx"}}, false, false},
		{"errors of a name", filter.Endings{Comms: []string{"nginx"}, Errors: true}, true, true},
		{"states of ordinary closes", filter.Endings{States: []events.State{events.Established}}, false, false},
		{"CLOSE_WAIT", filter.Endings{States: []events.State{events.CloseWait}}, true, false},
		{"SYN_RECV", filter.Endings{States: []events.State{events.SynRecv}}, true, false},
		{"SYN_SENT", filter.Endings{States: []events.State{events.SynSent}}, true, true},
		{"unread bytes", filter.Endings{MinUnread: 1}, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := Choose(Auto, Needs{Shown: test.shown, CloseWait: time.Second})
			if err != nil || p.Active != test.active || p.Passive != test.passive || p.Why == "" {
				t.Errorf("got %+v, %v; want active %v, passive %v", p, err, test.active, test.passive)
			}
			if want := map[bool]Tier{true: Quiet, false: Full}[test.active || test.passive]; p.Tier() != want {
				t.Errorf("tier %s, want %s", p.Tier(), want)
			}
		})
	}
}

// A tier that is asked for is what one gets, or an error.
func TestChooseForced(t *testing.T) {
	rst := filter.Endings{Only: []filter.Pattern{"rst"}}
	needs := Needs{Shown: rst, CloseWait: time.Second}
	if p, err := Choose(Full, needs); err != nil || p.Tier() != Full {
		t.Errorf("full: %+v, %v", p, err)
	}
	if p, err := Choose(Quiet, Needs{CloseWait: time.Second}); err != nil || !p.Active || !p.Passive {
		t.Errorf("quiet: %+v, %v", p, err)
	}
	for _, n := range []Needs{{Shown: rst, CloseWait: time.Second, Recorded: true}, {Shown: rst}} {
		if p, err := Choose(Auto, n); err != nil || p.Tier() != Full {
			t.Errorf("%+v: %+v, %v", n, p, err)
		}
		if p, err := Choose(Quiet, n); err == nil {
			t.Errorf("%+v: quiet is %+v, want an error", n, p)
		}
	}
}
