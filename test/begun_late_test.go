package test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Where tracing began between any two events of a scenario, less is reported, and some of it says that the cause was
// not seen. But no ending without a doubt is wrong.
func TestBegunLate(t *testing.T) {
	unseen := 0
	for at, section := range recordings(t) {
		header, _, recorded := recording(t, section)
		whole := endings(header, recorded)
		for i := range recorded {
			if isOneStep(recorded, i) {
				continue
			}
			unseen += compareLate(t, at.mode+"/"+at.scenario.Name, whole, endings(header, recorded[i:]))
		}
	}
	if unseen == 0 {
		t.Error("no scenario has an ending whose cause was before")
	}
}

// isOneStep reports whether the kernel did what is on both sides of a place in a recording to one socket at once, so
// that tracing does not begin there.
func isOneStep(recorded []events.Event, i int) bool {
	return slices.ContainsFunc(recorded[:i], func(before events.Event) bool {
		return slices.ContainsFunc(recorded[i:], func(ev events.Event) bool {
			// A RST in reply to data for a closed socket leaves once the socket has ended.
			reply := ev.Kind == events.KindReply && ev.Before == events.Close
			return before.Sock == ev.Sock && (reply || ev.MonoNS-before.MonoNS < uint64(2*time.Millisecond))
		})
	})
}

// compareLate compares the endings of a recording's end with those of the whole. It returns how many say that their
// cause was not seen.
func compareLate(t *testing.T, name string, whole, late []*events.Ending) (unseen int) {
	t.Helper()
	for _, e := range late {
		switch {
		case slices.ContainsFunc(whole, func(w *events.Ending) bool { return agrees(e, w) }):
		case slices.ContainsFunc(whole, func(w *events.Ending) bool { return isVaguer(e, w) }):
			unseen++
		case e.Doubt == "":
			t.Errorf("%s: observed, but wrong: %s", name, e.AppendJSON(nil))
		}
	}
	return unseen
}

// isVaguer reports whether e says less about how a socket had ended than w, and nothing that is not so: a socket whose
// connect(2) failed, and one that listened, were never connected.
func isVaguer(e, w *events.Ending) bool {
	same := *w
	same.Path = e.Path
	if !agrees(e, &same) {
		return false
	}
	switch e.Path {
	case events.CloseSilentClosed:
		return strings.HasPrefix(string(w.Path), string(e.Path)+".")
	case events.ClosedNever:
		return w.Path == events.ClosedConnect || w.Path == events.ClosedDisconnected && w.Remote.Port() == 0
	case events.AppWriteNotConnected:
		return w.Path == events.AppWriteAfterReset
	}
	return false
}
