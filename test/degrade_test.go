//go:build linux

package test

import (
	"slices"
	"testing"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/probe"
)

// Without any one of the optional hooks, each scenario reports less, and less is certain, but no ending without a
// doubt is wrong.
func TestDegraded(t *testing.T) {
	scenarios, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range lab.Modes {
		for _, hook := range probe.Optional(probe.Mode(mode)) {
			t.Run(mode+"/"+hook, func(t *testing.T) {
				changed := 0
				for _, sc := range scenarios {
					if section, ok := sc.Section("events." + mode + ".jsonl"); ok {
						changed += degraded(t, sc, section, hook)
					}
				}
				if changed == 0 {
					t.Error("no scenario has an event of this hook")
				}
			})
		}
	}
}

// degraded replays a scenario as if a hook had been missing, and returns how many endings changed.
func degraded(t *testing.T, sc *lab.Scenario, section []byte, hook string) (changed int) {
	t.Helper()
	header, _, recorded := recording(t, section)
	whole := endings(header, recorded)
	header.Missing = append(header.Missing, hook)
	seen := endings(header, without(t, hook, recorded))
	left := slices.Clone(whole)
	for _, e := range seen {
		i := slices.IndexFunc(left, func(w *events.Ending) bool { return agrees(e, w) })
		switch {
		case i >= 0:
			if (e.Evidence.RST == nil) != (left[i].Evidence.RST == nil) {
				changed++
			}
			left = slices.Delete(left, i, i+1)
		case e.Doubt == "":
			t.Errorf("%s: observed, but wrong: %s", sc.Name, e.AppendJSON(nil))
			changed++
		default:
			changed++
		}
	}
	return changed + len(left)
}

// agrees reports whether e has nothing that the ending of the whole replay contradicts.
func agrees(e, whole *events.Ending) bool {
	if e.Path != whole.Path || e.Local.Port() != whole.Local.Port() || e.Remote.Port() != 0 && e.Remote != whole.Remote {
		return false
	}
	if e.Actor != nil && (whole.Actor == nil || *e.Actor != *whole.Actor) {
		return false
	}
	states := e.Before == events.StateUnknown || e.Before == whole.Before
	return states && e.After == whole.After && e.Trigger == whole.Trigger && e.FIN == whole.FIN && e.RST == whole.RST
}

func endings(h events.Header, recorded []events.Event) []*events.Ending {
	var all []*events.Ending
	c := classify.New(h)
	keep := func(e *events.Ending) {
		kept := *e
		all = append(all, &kept)
	}
	for _, ev := range recorded {
		c.Push(&ev, keep)
	}
	c.Flush(keep)
	return all
}

// without returns the events that the kernel side would report without a hook. test/live checks some of them on a
// kernel.
func without(t *testing.T, hook string, recorded []events.Event) []events.Event {
	t.Helper()
	replace, ok := withoutHook[hook]
	if !ok {
		t.Fatalf("withoutHook has no %s", hook)
	}
	var left []events.Event
	for _, ev := range recorded {
		left = append(left, replace(ev)...)
	}
	return left
}

// withoutHook maps each optional hook to the events that replace an event without it.
var withoutHook = map[string]func(events.Event) []events.Event{
	"__tcp_close":     withoutLock,
	"inet_shutdown":   withoutShutdown,
	"tcp_disconnect":  withoutDisconnect,
	"tcp_abort":       withoutAbort,
	"tcp_done":        withoutKind(events.KindDone),
	"tcp_reset":       withoutHeaders,
	"tcp_fin":         withoutKind(events.KindPeerFIN),
	"sk_stream_error": withoutKind(events.KindEPIPE),
	"__scm_destroy":   withoutRights,
	"tcp_v4_send_reset": withoutReply(
		func(ev *events.Event) bool { return small(ev) && ev.Local.Addr().Unmap().Is4() },
	),
	"tcp_v6_send_reset": withoutReply(
		func(ev *events.Event) bool { return small(ev) && !ev.Local.Addr().Unmap().Is4() },
	),
	"nf_send_reset":         withoutReject(func(ev *events.Event) bool { return ev.Local.Addr().Is4() }),
	"nf_send_reset6":        withoutReject(func(ev *events.Event) bool { return ev.Local.Addr().Is6() }),
	"tcp:tcp_send_reset":    withoutReply(func(ev *events.Event) bool { return !small(ev) }),
	"signal:signal_deliver": withoutSignal,
	"task:task_rename":      withoutOldName,
}

func withoutKind(k events.Kind) func(events.Event) []events.Event {
	return func(ev events.Event) []events.Event {
		if ev.Kind == k {
			return nil
		}
		return []events.Event{ev}
	}
}

func withoutHeaders(ev events.Event) []events.Event {
	if ev.Kind == events.KindDone {
		ev.RST, ev.SegmentSeq, ev.SegmentAck, ev.SegmentFlags = nil, 0, 0, 0
	}
	return []events.Event{ev}
}

func withoutReply(unseen func(*events.Event) bool) func(events.Event) []events.Event {
	return func(ev events.Event) []events.Event {
		if ev.Kind == events.KindReply && unseen(&ev) {
			return nil
		}
		return []events.Event{ev}
	}
}

func withoutReject(unseen func(*events.Event) bool) func(events.Event) []events.Event {
	return func(ev events.Event) []events.Event {
		if ev.Kind == events.KindReject && unseen(&ev) {
			return nil
		}
		return []events.Event{ev}
	}
}

// small: no socket, or one that stands in for it.
func small(ev *events.Event) bool {
	return ev.Before == events.StateUnknown || ev.Before == events.TimeWait || ev.Before == events.NewSynRecv
}

func withoutSignal(ev events.Event) []events.Event {
	if ev.Kind == events.KindWaitOver && ev.Signal != 0 {
		return nil
	}
	return []events.Event{ev}
}

func withoutOldName(ev events.Event) []events.Event {
	if ev.Syscall == "execve" || ev.Syscall == "execveat" {
		ev.Task.Process = ""
	}
	return []events.Event{ev}
}

func withoutRights(ev events.Event) []events.Event {
	ev.Flags &^= events.SCMRightsDropped
	return []events.Event{ev}
}

// lackingLock: evidence is read at the entry of tcp_close, nothing at its
// return. MPTCP does not come that way: what its close sends stands alone.
func withoutLock(ev events.Event) []events.Event {
	if ev.Kind != events.KindClose {
		return []events.Event{ev}
	}
	sends := events.SentFIN | events.SentRST
	ev.Flags &^= events.UnderLock
	ev.AtReturn, ev.UnsentLeft = 0, 0
	if ev.Flags&sends == 0 {
		ev.After = ev.Before
	}
	switch {
	case !ev.Flags.Has(events.MPTCP) || ev.Before == events.Close:
		return []events.Event{ev}
	case ev.Flags.Has(events.SentRST):
		ev.Kind, ev.Stack = events.KindReset, []string{"tcp_send_active_reset", "__tcp_close"}
	case ev.Flags.Has(events.SentFIN):
		ev.Kind = events.KindFIN
	default:
		return nil
	}
	return []events.Event{ev}
}

// withoutShutdown: tcp_shutdown reports the calls that reach it; a listener and an attempt to connect are
// disconnected.
func withoutShutdown(ev events.Event) []events.Event {
	switch {
	case ev.Kind != events.KindShutdown:
	case ev.Flags.Has(events.ReachedTCP):
		ev.Result = 0
	case ev.Before == events.Listen && ev.After == events.Close || ev.Before == events.SynSent:
		ev.Kind, ev.How = events.KindDisconnect, 0
		ev.Flags |= events.Disconnected
	default:
		return nil
	}
	return []events.Event{ev}
}

// withoutDisconnect: the RST is the only event, and the socket is in CLOSE by then. A call that sends none has no
// event.
func withoutDisconnect(ev events.Event) []events.Event {
	ev.Flags &^= events.Disconnected
	ev.ChildrenDropped = 0
	switch {
	case ev.Kind == events.KindReset && ev.Listener != 0 && ev.Syscall == "connect":
		ev = orphaned(forgotten(ev), "tcp_disconnect", "__inet_stream_connect")
	case ev.Kind == events.KindReset && ev.Listener != 0:
		ev = forgotten(ev)
	case ev.Kind == events.KindDisconnect && ev.Flags.Has(events.SentRST):
		ev = forgotten(ev)
		ev.Kind, ev.DurationNS, ev.AtReturn = events.KindReset, 0, 0
		ev.Stack = []string{"tcp_send_active_reset", "tcp_disconnect", "inet_stream_connect"}
	case ev.Kind == events.KindDisconnect:
		return nil
	}
	return []events.Event{ev}
}

// forgotten returns the event of a socket in CLOSE.
func forgotten(ev events.Event) events.Event {
	ev.Before, ev.After, ev.AtRST = events.Close, events.Close, 0
	ev.UnreadBytes, ev.UnsentBytes, ev.UnackedBytes, ev.BytesSent, ev.BytesReceived = 0, 0, 0, 0, 0
	return ev
}

// orphaned returns the RST of a connection in the accept queue, without the call on its listener.
func orphaned(ev events.Event, callers ...string) events.Event {
	ev.Listener, ev.Task, ev.Syscall = 0, events.Task{}, ""
	ev.Flags &^= events.TaskContext
	ev.Stack = append(
		[]string{"tcp_send_active_reset", "tcp_disconnect", "inet_child_forget", "inet_csk_listen_stop"},
		callers...)
	return ev
}

// withoutAbort: the RST and the end are separate events.
func withoutAbort(ev events.Event) []events.Event {
	const econnaborted = 103
	switch {
	case ev.Kind == events.KindReset && ev.Listener != 0 && ev.Syscall == "sendto":
		ev = orphaned(forgotten(ev), "tcp_abort")
	case ev.Kind != events.KindAbort:
	case ev.Before == events.Listen:
		return nil
	default:
		done := ev
		done.Kind, done.SockErr, done.DurationNS, done.AtReturn = events.KindDone, econnaborted, 0, 0
		if !ev.Flags.Has(events.SentRST) {
			return []events.Event{done}
		}
		reset := done
		reset.Kind = events.KindReset
		reset.Stack = []string{"tcp_send_active_reset", "tcp_abort"}
		return []events.Event{reset, done}
	}
	return []events.Event{ev}
}
