package classify

import (
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
		{"after shutdown", []events.Event{write(events.FinWait2)}, AppWriteAfterShutdown},
		{"after the peer's reset", []events.Event{reset, write(events.Close)}, AppWriteAfterReset},
		{"reset in CLOSE_WAIT, error pending", []events.Event{write(events.Close, func(ev *events.Event) { ev.SockErr = epipe })}, AppWriteAfterReset},
		{"never connected", []events.Event{write(events.Close)}, AppWriteNotConnected},
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
	closing := events.Event{Kind: events.KindClose, MonoNS: 2e9, Sock: 7, Before: events.Close, Local: here, Remote: there, Flags: inTask}
	endings, _ := conclude(reset, write(events.Close), closing)
	if last := endings[len(endings)-1]; last.Path != ClosedReset {
		t.Errorf("a failed write is no ending, but the close after it is %s, want %s", last.Path, ClosedReset)
	}
}
