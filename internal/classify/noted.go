package classify

import "github.com/closetrace/closetrace/internal/events"

// In the quiet tier the kernel side only counts ordinary closes, and notes them. An ending that rests on an earlier
// close reads the notes first.

// restsOnClose reports whether the verdict on an event may rest on an ordinary close, of this connection or of an
// earlier socket at the same address.
func (c *Classifier) restsOnClose(f *fact) bool {
	switch f.Kind {
	case events.KindReply:
		return !beginsConnection(f)
	case events.KindReset, events.KindDone:
		return f.sent(events.Orphan)
	case events.KindClose:
		return f.Before == events.Close || c.history.shared.known > 0
	case events.KindEPIPE:
		return f.Before == events.Close
	}
	return false
}

// readNotes reads the closes that were noted since the last time, and adds those of the connection of an event to the
// history. What was remembered of the sockets of all is over. A connection of the same ports is added as well, and one
// that was added before again: the history keeps the later close. One that was noted after the event does not explain
// it, and would replace the one that does if the client has used its port again.
func (c *Classifier) readNotes(of *events.Event) {
	c.history.notedSince = c.Notes(func(n *events.Note) {
		c.notes.add(n)
		c.history.endSocket(n)
	})
	for n := range c.notes.of(of.Local.Port(), of.Remote.Port()) {
		if n.MonoNS > of.MonoNS {
			continue
		}
		ev := n.Close()
		e := &events.Ending{
			Path: events.CloseFINActive, FIN: true, Actor: c.task(&ev.Task),
			Local: unmapped(ev.Local), Remote: unmapped(ev.Remote), Netns: ev.Netns, ConnectionID: connectionID(&ev),
		}
		if ev.Before == events.CloseWait {
			e.Path = events.CloseFINPassive
		}
		c.history.addNoted(&fact{Event: &ev}, e, of)
	}
}

// addNoted remembers a close that was noted, for an event. It takes the place of a later connection's if it may explain
// the event and that does not: an event may have waited, and the notes of the later connection are read again for it.
func (h *history) addNoted(f *fact, e *events.Ending, of *events.Event) {
	key := connectionOf(e.Local, e.Remote, e.Netns)
	if p := h.connections.get(key); p != nil && p.noted && identityOf(f.Event).mayBe(identityOf(of)) &&
		(p.monoNS > of.MonoNS || !p.explains(of)) {
		h.connections.forget(key)
	}
	h.addConnection(f, e)
	if p := h.connections.get(key); p != nil && p.monoNS == f.MonoNS {
		p.noted, p.receivedEnd = true, 0 // a note does not say how much was received
	}
}

// endSocket ends what is remembered of a socket with its close. A later socket may have its address already, or had it
// before: the close of a socket that a RST ended may wait for longer than the next one at its address is open.
func (h *history) endSocket(n *events.Note) {
	of := socket{n.Sock, n.Netns, n.LocalPort}
	for _, ends := range [...]*recent[socket, past]{&h.sockets, &h.shared} {
		if p := ends.get(of); p != nil && p.monoNS <= n.MonoNS && (p.overNS == 0 || n.MonoNS < p.overNS) {
			p.overNS = n.MonoNS
		}
	}
}

// endNoted ends what is remembered of the socket of an event with a close that was noted after it. The note may have
// been read before the event, because it is not in the ring buffer.
func (c *Classifier) endNoted(ev *events.Event) {
	for n := range c.notes.of(ev.Local.Port(), ev.Remote.Port()) {
		c.history.endSocket(n)
	}
}

// current returns what is remembered of the socket of an event, unless that is about an earlier one, or may be: notes
// were overwritten, and a socket can still be closed in an ordinary way after it.
func (h *history) current(p *past, ev *events.Event) *past {
	switch {
	case p == nil, p.overNS != 0 && p.overNS < ev.MonoNS, p.monoNS < h.notedSince && p.staysOpen():
		return nil
	}
	return p
}

// staysOpen reports whether a socket may be in ESTABLISHED or CLOSE_WAIT after this.
func (p *past) staysOpen() bool {
	switch p.path.Family() {
	case "disconnect", "app", "reply":
		return true
	}
	return p.path == events.ShutdownRead || p.path == events.ShutdownNotConnected
}

// notKept says, of an ending after a close that is not known, why.
func (p phrase) notKept(f *fact) phrase {
	if !f.notesLost {
		return p
	}
	return p.text("; the note of that close was not kept")
}
