// Package record reads and writes a stream of events as a file: the [events.Header], the events, and the [End].
// Format 2 has them in frames, most events as the kernel side wrote them; format 1 is lines of JSON. A recording has
// events and no verdicts, so a later closetrace may conclude better from the same file.
//
// docs/record.md describes the format and its promise.
package record

import (
	"errors"

	"github.com/closetrace/closetrace/internal/hint"
)

// The kinds of the lines that are not events. Events have an [events.Kind].
const (
	kindIdle  = "idle"
	kindEnd   = "end"
	kindOwner = "owner"
)

// End is the last line: what is known only at the end of a run.
type End struct {
	TookNS       int64  `json:"took_ns"` // duration of the run
	LostRecords  uint64 `json:"lost_records"`
	MissedProbes uint64 `json:"missed_probes"`
	Suppressed   uint64 `json:"suppressed_replies"`
	Undecodable  uint64 `json:"undecodable_records"`
	Audit        Audit  `json:"audit"`
	// Continues: the recording goes on in the next file. The other fields are then about this file.
	Continues bool     `json:"continues,omitempty"`
	File      *FileEnd `json:"file,omitempty"` // nil if there is no rotation
}

// FileEnd is what [End] is about, for one file of several. Its losses are those that were noticed in this file.
type FileEnd struct {
	TookNS       int64  `json:"took_ns"`
	LostRecords  uint64 `json:"lost_records"`
	MissedProbes uint64 `json:"missed_probes"`
	Suppressed   uint64 `json:"suppressed_replies"`
}

// Why files of a recording have no audit.
const (
	goesOn     = "the recording goes on in another file"
	beganAhead = "the recording began in another file"
)

// Audit is how far the counters of [events.Header.AuditNetns] moved during the
// run, and how far of that while attaching and detaching. Counters that did not
// move are left out.
type Audit struct {
	Impossible string            `json:"impossible,omitempty"` // why there are no counters
	Moved      map[string]uint64 `json:"moved,omitempty"`
	Edges      map[string]uint64 `json:"edges,omitempty"`
	// Others are other namespaces that had endings or whose audited counters moved.
	Others []NetnsAudit `json:"others,omitempty"`
}

// NetnsAudit is [Audit] for another network namespace.
type NetnsAudit struct {
	Netns      uint32            `json:"netns"`
	Impossible string            `json:"impossible,omitempty"`
	New        bool              `json:"new,omitempty"` // it appeared during the run
	Moved      map[string]uint64 `json:"moved,omitempty"`
	Edges      map[string]uint64 `json:"edges,omitempty"`
}

// noHeader says that a file ends before its header does.
type noHeader string

func (n noHeader) Error() string { return string(n) }

// EndsInHeader reports whether an error of [Read] is that of a file that ends before its header does.
func EndsInHeader(err error) bool { return errors.As(err, new(noHeader)) }

// Damage is the place from which a record cannot be read. Everything before it is whole.
type Damage struct {
	Line int
	Err  error
}

func (d *Damage) Error() string { return d.Err.Error() }
func (d *Damage) Unwrap() error { return d.Err }

// Hint returns what to do, or what was done (in the past tense) with everything before the damage.
func (d *Damage) Hint(done string) string {
	if errors.Is(d, errJoined) || errors.Is(d, errPlain) {
		return "name the files that were joined as separate arguments"
	}
	return "everything before that was " + done
}

// unknown returns the error for a whole line that this version cannot decode.
func unknown(err error) error {
	return &hint.Error{
		Kind: hint.Undecodable, Err: err, Hint: "a newer closetrace may have written it; use one that is as new",
	}
}
