// Package ladder is the model of how a connection ended, as a diagram: what both ends did, in the order of time, and
// the segments between them. [New] makes a model from the endings of one connection, [Model.Text] draws it.
package ladder

import (
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Side is one of the two columns.
type Side int

// The sides.
const (
	Left Side = iota
	Right
)

// Other returns the other side.
func (s Side) Other() Side { return 1 - s }

// Model is a ladder.
type Model struct {
	Ends  [2]End
	Steps []Step // in the order of time
}

// End is the head of a column.
type End struct {
	Host    string // the name of its host, if the ladder has several
	Name    string // its address
	Process string // that holds or held the socket, such as nginx[4211]; empty: unknown
	// Unseen: nothing is known of how this end ended.
	Unseen bool
}

// Step is what happens at one moment, mostly at one end.
type Step struct {
	At       time.Time // zero in a ladder without times
	Acts     [2]Act
	Segments []Segment // sent or received, in their order
}

// Act is what one end does, or what happens to it.
type Act struct {
	What          string // a call, a timer, a segment received: close(2), RST received
	Before, After events.State
	Facts         []string // the numbers that decide, such as 148 B unread
	Got           string   // what the application gets of it: ECONNRESET, EOF
	Closed        string   // what took the socket from the application: it closed the socket; empty: nothing did
	// Inferred: this was not observed itself, but follows from another ending.
	Inferred bool
}

// Segment is a segment on its way between the ends.
type Segment struct {
	From  Side
	Label string // FIN, RST, 148 B
	Lost  bool   // it does not arrive
}
