// Package record reads and writes a stream of events as a file of lines, each
// one JSON object: the [events.Header] first, then the events, and at the end
// what only the end of a run knows. What is recorded are facts, not verdicts, so
// that a later closetrace may conclude better from the same file.
//
// docs/record.md describes the format and what it promises.
package record

import "errors"

// The kinds of line that are no event; those of events are of [events.Kind].
const (
	kindIdle = "idle"
	kindEnd  = "end"
)

// End is what only the end of a run knows.
type End struct {
	TookNS       int64  `json:"took_ns"` // the run
	LostRecords  uint64 `json:"lost_records"`
	MissedProbes uint64 `json:"missed_probes"`
	Suppressed   uint64 `json:"suppressed_replies"`
	Undecodable  uint64 `json:"undecodable_records"`
	Audit        Audit  `json:"audit"`
}

// Audit is how far the counters of [events.Header.AuditNetns] moved during the
// run, and the part of it that fell into attaching and detaching. Counters that
// did not move are left out.
type Audit struct {
	Impossible string            `json:"impossible,omitempty"` // why the counters say nothing
	Moved      map[string]uint64 `json:"moved,omitempty"`
	Edges      map[string]uint64 `json:"edges,omitempty"`
}

// ErrIdle is returned by [Reader.Read] where the recording run had nothing more
// to read and told what it had held back until then: [Reader.IdleNS].
var ErrIdle = errors.New("nothing to read at this moment")

// Damage is where a record can be read no further. All before it is whole.
type Damage struct {
	Line int
	Err  error
}

func (d *Damage) Error() string { return d.Err.Error() }
func (d *Damage) Unwrap() error { return d.Err }

// unknown is a whole line that this version does not understand.
type unknown struct{ err error }

func (u *unknown) Error() string { return u.err.Error() }
func (u *unknown) Unwrap() error { return u.err }

// Undecodable marks the error as one that concerns a single line.
func (u *unknown) Undecodable() bool { return true }

// Hint says what to do.
func (u *unknown) Hint() string {
	return "a newer closetrace may have written it; use one that is as new"
}
