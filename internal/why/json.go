package why

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/ladder"
)

// answerObject is an answer as JSON.
type answerObject struct {
	Schema   int               `json:"schema_version"`
	Kind     string            `json:"kind"` // which no ending has
	Matches  int               `json:"matches"`
	Partial  bool              `json:"partial,omitempty"`
	NotKept  int               `json:"not_kept,omitempty"`
	Abnormal bool              `json:"abnormal"`
	Cause    json.RawMessage   `json:"cause"`
	Ends     [2]endObject      `json:"ends"`
	Endings  []json.RawMessage `json:"endings"`
	Others   []otherObject     `json:"others,omitempty"`
}

type endObject struct {
	Host    string   `json:"host,omitempty"`
	Address string   `json:"address"`
	Process string   `json:"process,omitempty"`
	Seen    bool     `json:"seen"`
	Closed  bool     `json:"closed"`
	Gets    []string `json:"gets,omitempty"`
}

type otherObject struct {
	Time   time.Time   `json:"time"`
	Local  string      `json:"local"`
	Remote string      `json:"remote"`
	Path   events.Path `json:"path"`
	Cause  string      `json:"cause"`
}

// JSON returns the answer as one line for programs, "" if no connection matches. It is in English.
func (c *Collector) JSON() (string, error) {
	all := c.connections()
	if len(all) == 0 {
		return "", nil
	}
	encoder := events.NewEncoder()
	encoder.Begin(c.header)
	object := func(e *events.Ending) json.RawMessage { return encoder.Append(nil, e) }
	shown := all[0]
	o := answerObject{
		Schema: events.SchemaVersion, Kind: "answer", Matches: len(all), Partial: c.isPartial(), NotKept: c.notKept(),
		Abnormal: shown.isAbnormal(), Cause: object(shown.cause()),
	}
	for i, e := range shown.ends() {
		o.Ends[i] = endObject{e.host, e.address, e.process, !e.unseen, e.closed != "", e.gets}
	}
	for _, e := range shown.endings {
		o.Endings = append(o.Endings, object(e))
	}
	for _, n := range all[1:min(len(all), 1+maxListed)] {
		root := n.cause()
		o.Others = append(o.Others, otherObject{
			n.endings[0].Time.UTC(), ladder.Address(root.Local), ladder.Address(root.Remote), root.Path, root.Cause,
		})
	}
	line, err := json.Marshal(o)
	return string(line) + "\n", err
}

// isPartial reports whether no connection has both of the ends that the text names.
func (c *Collector) isPartial() bool { return c.Query.complete() >= 2 && c.best < byBothEnds }

// isAbnormal reports whether one of the endings is abnormal.
func (n *connection) isAbnormal() bool {
	return slices.ContainsFunc(n.endings, (*events.Ending).IsAbnormal)
}
