package sink

import (
	"encoding/json"
	"io"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// summaryObject is a [Summary] as the last line of -o json.
type summaryObject struct {
	Schema       int                         `json:"schema_version"`
	Kind         string                      `json:"kind"` // which no ending has
	Host         string                      `json:"host,omitempty"`
	BootID       string                      `json:"boot_id,omitempty"`
	Time         time.Time                   `json:"time"`
	TookNS       int64                       `json:"took_ns"`
	Endings      uint64                      `json:"endings"`
	LeftOut      uint64                      `json:"left_out"`
	Counted      uint64                      `json:"counted_only"`
	LostRecords  uint64                      `json:"lost_records"`
	MissedProbes uint64                      `json:"missed_probes"`
	Suppressed   uint64                      `json:"replies_left_out"`
	Undecodable  uint64                      `json:"not_decoded"`
	Unexplained  uint64                      `json:"not_explained"`
	Unwritten    uint64                      `json:"not_written"`
	NoEnd        bool                        `json:"truncated,omitempty"`
	BothEnds     *BothEnds                   `json:"both_ends,omitempty"`
	Paths        map[events.Path]pathCounted `json:"paths"`
}

type pathCounted struct {
	Endings     uint64 `json:"endings"`
	FINSent     uint64 `json:"fin_sent"`
	RSTSent     uint64 `json:"rst_sent"`
	RSTReceived uint64 `json:"rst_received"`
}

// PrintJSON writes the summary as one line, which says by its "kind" that it is no ending.
func (s *Summary) PrintJSON(w io.Writer, h events.Header) error {
	o := summaryObject{
		Schema: events.SchemaVersion, Kind: "summary", Host: h.Host, BootID: h.BootID, Time: time.Now().UTC(),
		TookNS: s.Took.Nanoseconds(), Endings: s.total, LeftOut: s.hidden, Counted: s.counted(),
		LostRecords: s.LostRecords, MissedProbes: s.MissedProbes, Suppressed: s.Suppressed, Undecodable: s.Undecodable,
		Unexplained: s.Unexplained, Unwritten: s.Unwritten, NoEnd: s.NoEnd, BothEnds: s.BothEnds, Paths: map[events.Path]pathCounted{},
	}
	for path, c := range s.paths {
		o.Paths[path] = pathCounted{c.endings, c.finSent, c.rstSent, c.rstReceived}
	}
	return json.NewEncoder(w).Encode(o)
}
