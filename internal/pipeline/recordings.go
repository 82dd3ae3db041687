package pipeline

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/rawevent"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink"
)

// ReplayAll passes the endings of recordings to a sink, several times: of the files of one run as those of one
// recording, of several recordings by time, with both ends of connections found. It prints no summaries, only what was
// lost. A file that can be read only once has no endings later. An error of kind [hint.Incomplete] is that of a damaged
// recording, of which everything before was passed on.
func ReplayAll(ctx context.Context, files []*os.File, times int, to Sink, o Options) error {
	var recordings []Files
	if len(files) > 1 {
		all, err := Recordings(files, o.Stderr)
		if err != nil {
			return err
		}
		recordings, files = all, all[0].Files
	}
	var damaged error
	for n := range times {
		if n > 0 {
			if !rewinds(files) {
				break
			}
			o.ReportError = func(error) {} // what is wrong was reported the first time
		}
		err := replayOnce(ctx, files, recordings, to, o)
		switch {
		case hint.Is(err, hint.Incomplete):
			damaged = err
		case err != nil:
			return err
		}
		o.Stderr = io.Discard // what was lost was said
	}
	return damaged
}

// reportLost says how many records a recording lost.
func (o *Options) reportLost(name string, lost uint64) {
	if lost > 0 {
		fmt.Fprintf(o.Stderr, "closetrace: %s: %s lost, so that something may be missing\n",
			sink.OneLine(name), events.Quantity(lost, "record was", "records were"))
	}
}

// Keeper is a sink that keeps some connections, and forgets one for another if there are too many.
type Keeper interface {
	Sink
	Evicted() bool // a connection was forgotten: one that is kept may lack endings
	Freeze()       // from here on, complete those that are kept
	Complete()     // everything was passed on since Freeze
}

// ReplayWhole is ReplayAll, and reads the recordings again if what the sink keeps of them may lack something. What is
// wrong with them is reported the first time.
func ReplayWhole(ctx context.Context, files []*os.File, times int, to Keeper, o Options) error {
	err := ReplayAll(ctx, files, times, to, o)
	if err != nil && !hint.Is(err, hint.Incomplete) || !to.Evicted() || ctx.Err() != nil || !rewinds(files) {
		return err
	}
	o.Stderr, o.ReportError = io.Discard, func(error) {}
	to.Freeze()
	if err := ReplayAll(ctx, files, 1, to, o); err != nil && !hint.Is(err, hint.Incomplete) {
		return err
	}
	if ctx.Err() == nil {
		to.Complete()
	}
	return err
}

// replayOnce passes on the endings of the recording in files or, if there are several, of all, and says how many
// records each of them lost.
func replayOnce(ctx context.Context, files []*os.File, recordings []Files, to Sink, o Options) error {
	say := o
	o.Stderr = io.Discard // of the summary
	if len(recordings) > 1 {
		sum, err := replayHosts(ctx, recordings, to, ReplayOptions{Options: o})
		for _, part := range sum.Parts {
			say.reportLost(part.Label, part.LostRecords)
		}
		return err
	}
	in, err := record.Join(files, rawevent.Recorded)
	if err != nil {
		return err
	}
	err = Replay(ctx, in, to, ReplayOptions{Options: o, Path: record.Name(files)})
	if in.End != nil {
		say.reportLost(record.Name(files), in.End.LostRecords)
	}
	return err
}

// rewinds sets files to their beginning, and reports whether all can be.
func rewinds(files []*os.File) bool {
	for _, file := range files {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return false
		}
	}
	return true
}
