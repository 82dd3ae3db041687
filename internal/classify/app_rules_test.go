package classify

import (
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

func TestWriteAfterTheEnd(t *testing.T) {
	write := func(before events.State, more ...func(*events.Event)) events.Event {
		ev := events.Event{Kind: events.KindEPIPE, MonoNS: 1e9, Sock: 7, Before: before, After: before,
			Local: here, Remote: there, Flags: inTask, Syscall: "sendto", How: 1}
		for _, f := range more {
			f(&ev)
		}
		return ev
	}
	reset := events.Event{Kind: events.KindDone, Sock: 7, Before: events.Established, After: events.Close,
		Local: here, Remote: there, SockErr: econnreset}
	tests := []struct {
		name   string
		events []events.Event
		want   events.Path
	}{
		{"after shutdown", []events.Event{write(events.FinWait2)}, events.AppWriteAfterShutdown},
		{"after the peer's reset", []events.Event{reset, write(events.Close)}, events.AppWriteAfterReset},
		{"reset in CLOSE_WAIT, error pending", []events.Event{
			write(events.Close, func(ev *events.Event) { ev.SockErr = epipe }),
		}, events.AppWriteAfterReset},
		{"after a deferred shutdown", []events.Event{
			write(events.SynRecv, func(ev *events.Event) { ev.ShutdownMask = 2 }),
		}, events.AppWriteAfterShutdown},
		{"never connected", []events.Event{write(events.Close)}, events.AppWriteNotConnected},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			endings, unexplained := conclude(tt.events...)
			last := endings[len(endings)-1]
			if last.Path != tt.want || unexplained != 0 {
				t.Fatalf("got %s, want %s", last.Path, tt.want)
			}
			if last.Trigger != events.TriggerWrite || last.Syscall != "sendto" || last.Actor == nil || !last.Evidence.SIGPIPE {
				t.Errorf("trigger %s %q, actor %v, SIGPIPE %v", last.Trigger, last.Syscall, last.Actor, last.Evidence.SIGPIPE)
			}
		})
	}
	closing := events.Event{
		Kind: events.KindClose, MonoNS: 2e9, Sock: 7, Before: events.Close, Local: here, Remote: there,
		Flags: inTask,
	}
	endings, _ := conclude(reset, write(events.Close), closing)
	if last := endings[len(endings)-1]; last.Path != events.ClosedReset {
		t.Errorf("a failed write is no ending, but the close after it is %s, want %s", last.Path, events.ClosedReset)
	}
}

// A close(2) that closes nothing says how much holds the socket, and who, as far
// as that was looked for; the close that counts refers to it.
func TestSharedClose(t *testing.T) {
	holder := &events.Task{PID: 99, Comm: "worker"}
	for _, c := range []struct {
		ev   events.Event
		want string
	}{
		{events.Event{References: 1}, "1 reference left"},
		{events.Event{
			References: 3, Searched: true, Owner: holder, OtherHolders: 1,
		}, "3 references left, held by worker[99] and 1 more"},
		{events.Event{
			References: 1, Searched: true, Owner: &events.Task{PID: 7},
		}, "held by another descriptor of this process"},
		{events.Event{References: 1, Searched: true}, "in no descriptor table a moment later: held by a call in progress"},
	} {
		c.ev.Kind, c.ev.Sock, c.ev.Syscall = events.KindShared, 1, "close"
		c.ev.Flags, c.ev.Task = events.TaskContext, events.Task{PID: 7, TID: 7, Comm: "server"}
		c.ev.Before, c.ev.After, c.ev.Local, c.ev.Remote = events.Established, events.Established, here, there
		last := events.Event{
			Kind: events.KindClose, Sock: 1, Flags: inTask | events.SentFIN, Syscall: "recvfrom", MonoNS: 5,
			Before: events.Established, After: events.FinWait1, AtReturn: events.FinWait1, Local: here, Remote: there,
		}
		endings, unexplained := conclude(c.ev, last)
		if len(endings) != 2 || unexplained != 0 || endings[0].Path != events.AppCloseShared ||
			!strings.Contains(endings[0].Cause, c.want) {
			t.Fatalf("%+v, want %q", endings, c.want)
		}
		if p := endings[1].Earlier; p == nil || p.Path != events.AppCloseShared || p.Actor.PID != 7 {
			t.Errorf("the close that counts: earlier %+v", p)
		}
	}
	exec := events.Event{Kind: events.KindShared, Syscall: "execve", Flags: events.TaskContext}
	if endings, unexplained := conclude(exec); len(endings) != 0 || unexplained != 0 {
		t.Errorf("close-on-exec: %+v, %d unexplained", endings, unexplained)
	}
}
