package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink"
)

// ReplayAll passes the endings of recordings of one host to a sink, several times: of the files of one run as those of
// one recording, of others one file after the other. It prints no summaries, only what was lost. A file that can be
// read only once has no endings later. An error of kind [hint.Incomplete] is that of a damaged recording, of which
// everything before was passed on; of kind [hint.Usage], that the recordings are of two hosts.
func ReplayAll(ctx context.Context, files []*os.File, times int, to Sink, o Options) error {
	recordings := [][]*os.File{files}
	if len(files) > 1 {
		if _, err := record.Join(files, probe.Recorded); hint.Is(err, hint.Usage) {
			recordings = slices.Collect(slices.Chunk(files, 1)) // of several runs
		}
		rewinds(files) // standard input is no one of several
	}
	var damaged error
	var host string
	for n := range times {
		for _, files := range recordings {
			if n > 0 && !rewinds(files) {
				continue
			}
			switch err := replayOf(ctx, files, &host, to, o); {
			case hint.Is(err, hint.Incomplete):
				damaged = err
			case err != nil:
				return err
			}
		}
	}
	return damaged
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

// replayOf passes the endings of a recording on. It must be of this host; the first one decides.
func replayOf(ctx context.Context, files []*os.File, host *string, to Sink, o Options) error {
	in, err := record.Join(files, probe.Recorded)
	if err != nil {
		return err
	}
	if *host = cmp.Or(*host, in.Header.Host); in.Header.Host != "" && in.Header.Host != *host {
		return hint.New(hint.Usage, "recordings of two hosts: "+*host+", "+in.Header.Host, "use those of one host")
	}
	stderr := o.Stderr
	o.Stderr = io.Discard // of the summary
	if err := Replay(ctx, in, to, ReplayOptions{Options: o, Path: record.Name(files)}); err != nil {
		return err
	}
	if in.End != nil && in.End.LostRecords > 0 {
		fmt.Fprintf(stderr, "closetrace: %s: %d records were lost, so that something may be missing\n",
			sink.OneLine(record.Name(files)), in.End.LostRecords)
	}
	return nil
}
