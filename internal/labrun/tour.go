package labrun

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/ladder"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/sink/table"
)

// station is an ending of the tour.
type station struct {
	seen    string      // what an application or its user sees
	path    events.Path // of the ending that explains it
	variant string      // of the scenario of that path
}

// scenario returns the name of the scenario.
func (s *station) scenario() string { return string(s.path) + s.variant }

// tour is the endings that most users meet, the ordinary one first.
var tour = []station{
	{"an ordinary close", events.CloseFINActive, ""},
	{"connection reset by peer", events.CloseRSTUnread, ""},
	{"connection reset by peer, on purpose", events.CloseRSTLinger0, ""},
	{"broken pipe", events.ReplyTimeWait, ""},
	{"EOF where an answer was expected", events.CloseFINActive, "_killed"},
	{"connection refused", events.ReplyNoSocket, ""},
	{"connection timed out", events.AbortUserTimeout, ""},
	{"CLOSE_WAIT piles up", events.RecvFIN, "_leaked"},
}

// howToGoOn is the end of the tour.
const howToGoOn = `
what a path means, and how to avoid it: ./closetrace explain close.rst.unread
one scenario in detail:                 sudo ./closetrace lab close.rst.unread
to trace the whole machine:             sudo ./closetrace
`

// runTour runs the scenarios of the tour, one after the other, and prints a screen for each. It returns the other
// scenarios.
func (r *runner) runTour(ctx context.Context, scenarios []*lab.Scenario) ([]*lab.Scenario, error) {
	for i, at := range tour {
		sc, err := lab.Find(at.scenario())
		if err != nil {
			return nil, err
		}
		v, err := r.judged(ctx, sc)
		if err != nil {
			return nil, err
		}
		r.tally.count(v)
		if _, err := fmt.Fprintf(r.Stdout, "%d/%d  %s\n%s\n", i+1, len(tour), at.seen, r.screen(&at, v)); err != nil {
			return nil, pipeline.OutputFailure(err)
		}
	}
	rest := slices.DeleteFunc(slices.Clone(scenarios), func(sc *lab.Scenario) bool {
		return slices.ContainsFunc(tour, func(at station) bool { return at.scenario() == sc.Name })
	})
	_, err := io.WriteString(r.Stdout, "the whole lab, which takes about a minute, by family of paths\n")
	return rest, pipeline.OutputFailure(err)
}

// widthWithoutTerminal is the width of the tour in a file or a pipe.
const widthWithoutTerminal = 80

// screen returns the ladder of an ending and its cause, or the verdict if there is none.
func (r *runner) screen(at *station, v *verdict) string {
	i := slices.IndexFunc(v.endings, func(e events.Ending) bool { return e.Path == at.path })
	if v.Verdict != pass || i < 0 {
		return v.text()
	}
	cause := &v.endings[i]
	var connection []*events.Ending
	for i := range v.endings {
		e := &v.endings[i]
		if e.Local == cause.Local && e.Remote == cause.Remote || e.Local == cause.Remote && e.Remote == cause.Local {
			connection = append(connection, e)
		}
	}
	layout := r.Layout
	layout.Width = cmp.Or(layout.Width, widthWithoutTerminal)
	layout.Indent = len("1/8  ")
	var b strings.Builder
	line := func(text string) {
		for _, part := range table.Wrap(layout.Plain(sink.Tame(text)), layout.Width-layout.Indent) {
			b.WriteString(strings.Repeat(" ", layout.Indent) + part + "\n")
		}
	}
	line(v.Title)
	b.WriteString("\n" + ladder.New(connection).Text(layout) + "\n")
	line(cause.Cause + " (" + string(cause.Path) + ")")
	return b.String()
}
