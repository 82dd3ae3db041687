package record

import (
	"encoding/json"
	"errors"
	"hash/maphash"

	"github.com/closetrace/closetrace/internal/events"
)

// ownerLine is the owner of an event that was recorded before. It was looked up when the event was concluded.
type ownerLine struct {
	Kind       string       `json:"kind"` // kindOwner
	Of         events.Kind  `json:"of"`   // with the next two: the event
	MonoNS     uint64       `json:"mono_ns"`
	Sock       uint64       `json:"sock"`
	Owner      *events.Task `json:"owner"`
	OwnerBytes []byte       `json:"owner_comm_bytes,omitempty"`
}

func ownerOf(ev *events.Event, seed maphash.Seed) *ownerLine {
	return &ownerLine{
		Kind: kindOwner, Of: ev.Kind, MonoNS: ev.MonoNS, Sock: alias(seed, ev.Sock), Owner: ev.Owner,
		OwnerBytes: notText(ev.Owner.Comm),
	}
}

// event returns the event without all but its owner and what identifies it.
func (o *ownerLine) event() *events.Event {
	return &events.Event{Kind: o.Of, MonoNS: o.MonoNS, Sock: o.Sock, Owner: o.Owner}
}

// ownerKey identifies an event.
type ownerKey struct {
	kind         events.Kind
	monoNS, sock uint64
}

const (
	// maxOwners bounds each half of [owners]. A classifier has fewer events pending.
	maxOwners = 16384
	// maxComm is more than any name of a process has.
	maxComm = 256
)

// owners are the owners that were read and not asked for yet. If one half is full, the other one is forgotten.
type owners struct{ newer, older map[ownerKey]*events.Task }

func (o *owners) add(l *ownerLine) {
	if o.newer == nil || len(o.newer) >= maxOwners {
		o.newer, o.older = map[ownerKey]*events.Task{}, o.newer
	}
	o.newer[ownerKey{l.Of, l.MonoNS, l.Sock}] = l.Owner
}

// SetOwner sets the owner of an event that was read, if it was looked up after the event was recorded. It is for an
// event that is about to be concluded.
func (r *Reader) SetOwner(ev *events.Event) {
	key := ownerKey{ev.Kind, ev.MonoNS, ev.Sock}
	for _, known := range []map[ownerKey]*events.Task{r.owners.newer, r.owners.older} {
		if owner := known[key]; owner != nil {
			ev.Owner = owner
			delete(known, key)
			return
		}
	}
}

// errOwner is returned where [Reader.Read] reads on.
var errOwner = errors.New("an owner")

// addOwner remembers an owner.
func (r *Reader) addOwner(text []byte) error {
	var l ownerLine
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	if l.Owner == nil || len(l.Owner.Comm)+len(l.Owner.Process)+len(l.OwnerBytes) > maxComm {
		return errors.New("an owner without a name, or with a very long one")
	}
	if l.OwnerBytes != nil {
		l.Owner.Comm = string(l.OwnerBytes)
	}
	r.owners.add(&l)
	if r.onOwner != nil {
		r.onOwner(l.event())
	}
	return errOwner
}
