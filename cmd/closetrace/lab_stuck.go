package main

import (
	"context"
	"time"

	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/stuck"
)

// stillOpen is what closetrace stuck finds once a scenario's steps are done, and
// how that differs from what has to be.
type stillOpen struct {
	found []stuck.Finding
	wrong []lab.Mismatch
}

// lookAt finds the sockets that wait for their end, if the scenario is about them,
// and looks again while they are not as they have to be. It is called on the
// scenario's thread, which is in its namespace.
func (s *session) lookAt(ctx context.Context, sc *lab.Scenario, res *lab.Result) (o stillOpen) {
	if len(sc.Stuck) == 0 {
		return o
	}
	ask := s.env.sockDiag() // the live tests hold the iterators to it
	for end := time.Now().Add(seenTime); ; time.Sleep(20 * time.Millisecond) {
		all, _, err := ask.sockets("", res.Netns)
		var holders map[uint64][]stuck.Holder
		if err == nil {
			holders, _, err = ask.holders(stuck.Wanted(all))
		}
		if err != nil {
			return stillOpen{wrong: []lab.Mismatch{{Text: err.Error()}}}
		}
		o.found = stuck.Find(all, holders)
		var seen []lab.StuckSeen
		for _, f := range o.found {
			seen = append(seen, lab.StuckSeen{Endpoint: lab.Endpoint{Local: f.Local, Remote: f.Remote}, Diagnosis: string(f.Diagnosis)})
		}
		o.wrong = lab.CompareStuck(sc, res, seen)
		if len(o.wrong) == 0 || ctx.Err() != nil || time.Now().After(end) {
			return o
		}
	}
}
