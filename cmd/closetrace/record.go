package main

import (
	"fmt"
	"io"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink"
)

// recording is a record file in the making.
type recording struct {
	file *record.File
	path string
}

// newRecording begins a record of what flows under h, unless there is no path.
func (e *env) newRecording(path string, h events.Header, audited uint32) (recorder, error) {
	if path == "" {
		return forgetful{}, nil
	}
	h.AuditNetns = audited
	file, err := record.Create(path, h, func(w io.Writer) io.Writer { return e.patient(w) })
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err) // which names the file
	}
	return &recording{file, path}, nil
}

// Write keeps a fact.
func (r *recording) Write(ev *events.Event) error { return r.failed(r.file.Write(ev)) }

// Idle keeps a moment without facts.
func (r *recording) Idle(monoNS uint64) error { return r.failed(r.file.Idle(monoNS)) }

// Flush makes safe what was kept.
func (r *recording) Flush() error { return r.failed(r.file.Flush()) }

// End completes the record.
func (r *recording) End(e *record.End) error { return r.failed(r.file.Close(e)) }

func (r *recording) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("recording to %s: %w", r.path, err)
}

// endOf is what a record keeps of the summary; the rest follows from the facts.
func endOf(s *sink.Summary) *record.End {
	return &record.End{
		TookNS:      int64(s.Took),
		LostRecords: s.LostRecords, MissedProbes: s.MissedProbes, Suppressed: s.Suppressed, Undecodable: s.Undecodable,
		Audit: record.Audit{
			Impossible: s.Audit.Impossible,
			Moved:      nonZero(s.Audit.Moved), Edges: nonZero(s.Audit.Edges),
		},
	}
}

func nonZero(all sink.Counters) map[string]uint64 {
	moved := map[string]uint64{}
	for name, n := range all {
		if n != 0 {
			moved[name] = n
		}
	}
	return moved
}

// restore completes the summary of a replay by what its record says at the end,
// if it has one.
func restore(s *sink.Summary, end *record.End) {
	if end == nil {
		s.NoEnd, s.Audit.Impossible = true, "the end of the record was not read"
		return
	}
	s.Took = time.Duration(end.TookNS)
	s.LostRecords, s.MissedProbes, s.Suppressed = end.LostRecords, end.MissedProbes, end.Suppressed
	s.Undecodable += end.Undecodable
	s.Audit.Impossible, s.Audit.Moved, s.Audit.Edges = end.Audit.Impossible, end.Audit.Moved, end.Audit.Edges
}
