package classify

import (
	"iter"

	"github.com/closetrace/closetrace/internal/events"
)

const (
	notesBits = 14
	// maxNotes bounds the notes that are kept: about 2 MB, as many as connections are remembered.
	maxNotes = 1 << notesBits
)

// notes are the closes that the kernel side has noted, the last ones of them. They are found by the ports of their
// connection. Most are never looked for: so they are neither completed nor removed, but overwritten.
type notes struct {
	all    []events.Note // by number, modulo maxNotes
	older  []uint64      // by number as well: of the note before with the same hash
	newest []uint64      // by the hash of the ports: the number of the last note; 0: none
	count  uint64        // the number of the last one; the first is 1
}

// add keeps a copy of a note.
func (n *notes) add(note *events.Note) {
	if n.all == nil { // only the quiet tier has notes
		n.all, n.older, n.newest = make([]events.Note, maxNotes), make([]uint64, maxNotes), make([]uint64, maxNotes)
	}
	n.count++
	place, newest := n.count%maxNotes, &n.newest[hashOfPorts(note.LocalPort, note.RemotePort)]
	n.all[place], n.older[place], *newest = *note, *newest, n.count
}

// of yields the notes of connections with these ports, the last one first. A note is valid until the next add.
func (n *notes) of(local, remote uint16) iter.Seq[*events.Note] {
	return func(yield func(*events.Note) bool) {
		if n.all == nil {
			return
		}
		number := n.newest[hashOfPorts(local, remote)]
		for number != 0 && n.count-number < maxNotes {
			note := &n.all[number%maxNotes]
			if note.LocalPort == local && note.RemotePort == remote && !yield(note) {
				return
			}
			number = n.older[number%maxNotes]
		}
	}
}

func hashOfPorts(local, remote uint16) uint32 {
	return (uint32(local)<<16 | uint32(remote)) * 2654435761 >> (32 - notesBits) // Fibonacci hashing
}
