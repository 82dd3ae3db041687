package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/stuck"
)

// sameBoot is how far the starts of CLOCK_MONOTONIC of two readings may be apart, on
// the clock of the day, if both are of one boot: its steps move it, its slewing does
// not.
const sameBoot = 10 * time.Millisecond

// history reads when sockets came into their state from a record of this boot, which
// somebody may be writing still.
func (f *stuckFlags) history(e *env) (*stuck.History, error) {
	h := &stuck.History{}
	if f.since == "" {
		return h, nil
	}
	in, file, err := record.Open(f.since)
	if err != nil {
		return nil, noRecord(f.since, err)
	}
	defer file.Close()
	release, offset := e.boot()
	if in.Header.Kernel != release || time.Duration(in.Header.WallOffsetNS-offset).Abs() > sameBoot {
		return nil, &usageError{
			fmt.Sprintf("%s is no record of this machine since it was booted, or the clock was set since", f.since),
			"closetrace -w FILE records one",
		}
	}
	for ev := new(events.Event); ; {
		var damage *record.Damage
		switch err := in.Read(ev); {
		case err == nil:
			h.Add(ev)
		case errors.Is(err, io.EOF):
			return h, nil
		case errors.As(err, &damage): // all that is whole counts
			logger(e, f.verbose).Debug("the record has no end", "because", err)
			return h, nil
		}
	}
}
