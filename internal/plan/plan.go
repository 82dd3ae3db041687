// Package plan decides, before tracing begins, which endings the kernel side only counts.
package plan

import (
	"fmt"
	"math"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/hint"
)

// Tier says how much the kernel side reports.
type Tier string

// The tiers. Auto is Quiet if ordinary closes are not shown, otherwise Full.
const (
	Auto  Tier = "auto"
	Full  Tier = "full"  // report everything
	Quiet Tier = "quiet" // count ordinary closes
)

// Tiers returns all tiers.
func Tiers() []Tier { return []Tier{Auto, Full, Quiet} }

// Needs is what a run does with endings.
type Needs struct {
	Shown     filter.Endings
	Recorded  bool          // every event is recorded
	CloseWait time.Duration // after which a FIN without an answer is an ending
}

// Plan is what the kernel side counts instead of reporting it. The close of a socket that has already ended is not
// counted: the socket does not say what ended it.
type Plan struct {
	Active  bool // ordinary closes in ESTABLISHED
	Passive bool // ordinary closes in CLOSE_WAIT, and the FINs that were received before them
	Why     string
}

// Tier returns [Quiet] if anything is only counted, otherwise [Full].
func (p Plan) Tier() Tier {
	if p.Active || p.Passive {
		return Quiet
	}
	return Full
}

// Choose returns the plan for a tier. It returns an error if the needs forbid the tier.
func Choose(tier Tier, n Needs) (Plan, error) {
	if tier == Full {
		return Plan{Why: "--tier full"}, nil
	}
	if why := n.forbid(); why != "" {
		if tier == Quiet {
			return Plan{}, hint.New(hint.Usage, "--tier quiet cannot be used: "+why, "leave out --tier quiet")
		}
		return Plan{Why: why}, nil
	}
	if tier == Quiet {
		return Plan{Active: true, Passive: true, Why: "--tier quiet"}, nil
	}
	p := Plan{
		Active:  !n.shows(ordinary(events.CloseFINActive, events.Established)),
		Passive: !n.shows(ordinary(events.CloseFINPassive, events.CloseWait)) && !n.showsPeerFIN(),
	}
	switch {
	case p.Active && p.Passive:
		p.Why = "ordinary closes are not shown"
	case p.Active:
		p.Why = fmt.Sprintf("of ordinary closes, %s is not shown", events.CloseFINActive)
	case p.Passive:
		p.Why = fmt.Sprintf("of ordinary closes, %s is not shown", events.CloseFINPassive)
	default:
		p.Why = "ordinary closes are shown"
	}
	return p, nil
}

// forbid returns why every event has to be reported, or "".
func (n Needs) forbid() string {
	switch {
	case n.Recorded:
		return "a recording (-w) holds every event"
	case n.CloseWait <= 0:
		return "--close-wait 0s reports every FIN"
	}
	return ""
}

// ordinary returns an ending that stands for all ordinary closes of a path. All that filters check is the same for all
// of them, but for processes and addresses.
func ordinary(path events.Path, before events.State) *events.Ending {
	return &events.Ending{Path: path, Before: before, FIN: true}
}

// shows reports whether an ending like e, of any process and address, may be shown.
func (n Needs) shows(e *events.Ending) bool {
	f := n.Shown.WithoutParty()
	return f.Match(e)
}

// showsPeerFIN reports whether a FIN that was not answered may be shown. Any number of bytes may be unread.
func (n Needs) showsPeerFIN() bool {
	for _, before := range [...]events.State{events.Established, events.SynRecv} {
		e := &events.Ending{Path: events.RecvFIN, Before: before}
		e.Evidence.UnreadBytes = math.MaxUint32
		if n.shows(e) {
			return true
		}
	}
	return false
}
