package classify

import (
	"net/netip"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

const hz = 250

var testHeader = events.Header{Schema: 1, HZ: hz, WallOffsetNS: int64(time.Hour)}

// conclude pushes events and flushes.
func conclude(evs ...events.Event) (endings []events.Ending, unexplained uint64) {
	c := New(testHeader)
	endings = c.concludeAll(evs)
	return endings, c.Unexplained
}

// concludeUnder is conclude with another header.
func concludeUnder(h events.Header, evs ...events.Event) []events.Ending {
	return New(h).concludeAll(evs)
}

func (c *Classifier) concludeAll(evs []events.Event) (endings []events.Ending) {
	keep := func(e *events.Ending) { endings = append(endings, *e) }
	for i := range evs {
		c.Push(&evs[i], keep)
	}
	c.Flush(keep)
	return endings
}

var (
	here  = netip.MustParseAddrPort("10.0.0.5:443")
	there = netip.MustParseAddrPort("10.0.0.9:51234")
)

const inTask = events.TaskContext | events.UnderLock

// Where the connection belongs is where its socket was made.
func TestPlace(t *testing.T) {
	for name, tt := range map[string]struct {
		ev            events.Event
		cgroup, actor string
	}{
		"one": {events.Event{
			Kind: events.KindAbort, Flags: inTask, CgroupID: 7, Cgroup: "/a", SocketCgroupID: 7,
		}, "/a", ""},
		"two": {events.Event{
			Kind: events.KindAbort, Flags: inTask, CgroupID: 7, Cgroup: "/a", SocketCgroupID: 8,
			SocketCgroup: "/b",
		}, "/b", "/a"},
		"socket's gone": {events.Event{
			Kind: events.KindAbort, Flags: inTask, CgroupID: 7, Cgroup: "/a", SocketCgroupID: 8,
		}, "", "/a"},
		"socket's not known": {events.Event{
			Kind: events.KindAbort, Flags: inTask, CgroupID: 7, Cgroup: "/a",
		}, "/a", ""},
		"by the kernel": {events.Event{Kind: events.KindPeerFIN, SocketCgroupID: 8, SocketCgroup: "/b"}, "/b", ""},
		"by the kernel in a task": {events.Event{
			Kind: events.KindPeerFIN, Flags: inTask, CgroupID: 7, Cgroup: "/a", SocketCgroupID: 8,
			SocketCgroup: "/b",
		}, "/b", ""},
		"by the kernel, not known": {events.Event{
			Kind: events.KindPeerFIN, Flags: inTask, CgroupID: 7, Cgroup: "/a",
		}, "", ""},
	} {
		tt.ev.Before, tt.ev.After = events.Established, events.CloseWait
		endings, _ := conclude(tt.ev)
		if len(endings) != 1 || endings[0].Cgroup != tt.cgroup || endings[0].ActorCgroup != tt.actor {
			t.Errorf("%s: %+v", name, endings)
		}
	}
}

func TestCloseVerdicts(t *testing.T) {
	tests := []struct {
		name string
		ev   events.Event
		want events.Path
	}{
		{"nothing special", events.Event{Before: events.Established, Flags: events.SentFIN}, events.CloseFINActive},
		{"peer closed first", events.Event{
			Before: events.CloseWait, Flags: events.SentFIN | events.PeerFIN,
		}, events.CloseFINPassive},
		{"in the handshake", events.Event{Before: events.SynRecv, Flags: events.SentFIN}, events.CloseFINSynRecv},
		{"unread data", events.Event{
			Before: events.Established, Flags: events.SentRST, UnreadBytes: 1, AtRST: events.Established,
		}, events.CloseRSTUnread},
		{"unread data goes before linger 0", events.Event{
			Before: events.Established, Flags: events.SentRST | events.LingerOn, UnreadBytes: 1,
			AtRST: events.Established,
		}, events.CloseRSTUnread},
		{"unread data goes before linger2", events.Event{
			Before: events.FinWait2, Flags: events.SentRST, UnreadBytes: 1, Linger2Jiffies: -1,
			AtRST: events.FinWait2,
		}, events.CloseRSTUnread},
		{"linger 0, call seen", events.Event{
			Before: events.Established, Flags: events.SentRST | events.LingerOn | events.Disconnected,
		}, events.CloseRSTLinger0},
		{"linger 0, by state changes", events.Event{
			Before: events.CloseWait, Flags: events.SentRST | events.LingerOn, AtRST: events.CloseWait,
		}, events.CloseRSTLinger0},
		{"linger 0 with output in LAST_ACK", events.Event{
			Before: events.LastAck, Flags: events.SentRST | events.LingerOn | events.Disconnected,
			UnsentBytes: 5,
		}, events.CloseRSTLinger0Unsent},
		{"linger 0 with nothing to reset is no reset", events.Event{
			Before: events.LastAck, Flags: events.LingerOn | events.Disconnected,
		}, events.CloseSilentLinger0},
		{"stale linger time without the flag", events.Event{
			Before: events.Established, Flags: events.SentFIN, LingerJiffies: 0,
		}, events.CloseFINActive},
		{"linger2", events.Event{
			Before: events.FinWait2, Flags: events.SentRST, Linger2Jiffies: -1, AtRST: events.FinWait2,
		}, events.CloseRSTLinger2},
		{"linger2 after a wait", events.Event{
			Before: events.Established, Flags: events.SentFIN | events.SentRST | events.LingerOn,
			LingerJiffies: 5 * hz, TimeoutJiffies: 5 * hz, Linger2Jiffies: -1, AtRST: events.FinWait2,
		}, events.CloseRSTLinger2},
		{"memory, though linger2 is set", events.Event{
			Before: events.Established, Flags: events.SentFIN | events.SentRST, Linger2Jiffies: -1,
			AtRST: events.FinWait1,
		}, events.CloseRSTOOM},
		{"memory", events.Event{
			Before: events.Established, Flags: events.SentFIN | events.SentRST, AtRST: events.FinWait1,
		}, events.CloseRSTOOM},
		{"memory after shutdown", events.Event{
			Before: events.FinWait1, Flags: events.SentRST, AtRST: events.FinWait1,
		}, events.CloseRSTOOM},
		{"repair", events.Event{
			Before: events.Established, Flags: events.Repair | events.Disconnected,
		}, events.CloseSilentRepair},
		{"connecting", events.Event{Before: events.SynSent}, events.CloseSilentSynSent},
		{"connecting with linger 0", events.Event{
			Before: events.SynSent, Flags: events.LingerOn | events.Disconnected,
		}, events.CloseSilentSynSent},
		{"never connected", events.Event{Before: events.Close}, events.ClosedNever},
		{"closed before", events.Event{Before: events.Close, Local: here, Remote: there}, events.CloseSilentClosed},
		{"error pending", events.Event{Before: events.Close, Local: here, Remote: there, SockErr: 104}, events.ClosedReset},
		{"error pending, no peer", events.Event{Before: events.Close, Local: here, SockErr: 104}, events.ClosedDisconnected},
		{"namespace gone", events.Event{
			Before: events.Established, After: events.Close, Flags: events.SentFIN | events.NetnsGone,
		}, events.CloseSilentNetns},
		{"after shutdown", events.Event{Before: events.FinWait2}, events.CloseAfterShutdown},
		{"listener", events.Event{
			Before: events.Listen, Children: 2, ChildrenReset: 2, ChildrenDropped: 2,
		}, events.CloseListen},
		{"listener whose children had died", events.Event{
			Before: events.Listen, Children: 2, ChildrenDropped: 2,
		}, events.CloseListen},
		{"listener of a group", events.Event{Before: events.Listen, Children: 2}, events.CloseListenMigrated},
		{"listener with handshakes", events.Event{Before: events.Listen, PendingRequests: 1}, events.CloseListenSynRecv},
		{"linger, acknowledged in time", events.Event{
			Before: events.Established, After: events.FinWait1, AtReturn: events.FinWait2,
			Flags: events.SentFIN | events.LingerOn, LingerJiffies: hz, TimeoutJiffies: hz, WaitedJiffies: 10,
		}, events.CloseLingerDone},
		{"linger, timed out", events.Event{
			Before: events.Established, After: events.FinWait1, AtReturn: events.FinWait1,
			Flags: events.SentFIN | events.LingerOn, LingerJiffies: hz, TimeoutJiffies: hz, WaitedJiffies: hz,
		}, events.CloseLingerTimeout},
		{"linger, interrupted", events.Event{
			Before: events.CloseWait, After: events.LastAck, AtReturn: events.LastAck,
			Flags: events.SentFIN | events.LingerOn, LingerJiffies: hz, TimeoutJiffies: hz,
			WaitedJiffies: hz - 1,
		}, events.CloseLingerSignal},
		{"linger does not wait in exit", events.Event{
			Before: events.Established, After: events.FinWait1, AtReturn: events.FinWait1,
			Flags: events.SentFIN | events.LingerOn, LingerJiffies: hz, TaskFlags: pfExiting,
		}, events.CloseFINActive},
		{"linger after shutdown", events.Event{
			Before: events.FinWait1, AtReturn: events.FinWait2, Flags: events.LingerOn, LingerJiffies: hz,
			TimeoutJiffies: hz,
		}, events.CloseLingerDone},
		{"linger has nothing to wait for in FIN_WAIT2", events.Event{
			Before: events.FinWait2, Flags: events.LingerOn, LingerJiffies: hz, TimeoutJiffies: hz,
		}, events.CloseAfterShutdown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.ev.Kind = events.KindClose
			tt.ev.Flags |= inTask
			endings, _ := conclude(tt.ev)
			if len(endings) != 1 || endings[0].Path != tt.want {
				t.Fatalf("got %+v, want %s", endings, tt.want)
			}
			if e := endings[0]; e.Doubt != "" || e.Cause == "" || e.Actor == nil {
				t.Errorf("doubt %q, cause %q, actor %v", e.Doubt, e.Cause, e.Actor)
			}
		})
	}
}

func TestShutdownVerdicts(t *testing.T) {
	tests := []struct {
		name string
		ev   events.Event
		want events.Path
	}{
		{"read", events.Event{Before: events.Established, After: events.Established, How: 1}, events.ShutdownRead},
		{"write", events.Event{
			Before: events.Established, After: events.FinWait1, How: 2, Flags: events.SentFIN,
		}, events.ShutdownWrite},
		{"both", events.Event{
			Before: events.CloseWait, After: events.LastAck, How: 3, Flags: events.SentFIN,
		}, events.ShutdownBoth},
		{"write again", events.Event{Before: events.FinWait2, After: events.FinWait2, How: 2}, events.ShutdownNoop},
		{"in the handshake", events.Event{Before: events.SynRecv, After: events.SynRecv, How: 2}, events.ShutdownDeferred},
		{"not connected", events.Event{
			Before: events.Close, After: events.Close, How: 3, Result: -107,
		}, events.ShutdownNotConnected},
		{"listener", events.Event{
			Before: events.Listen, After: events.Close, How: 3, Flags: events.Disconnected,
		}, events.ShutdownListen},
		{"listener, write", events.Event{Before: events.Listen, After: events.Listen, How: 2}, events.ShutdownListen},
		{"connecting", events.Event{
			Before: events.SynSent, After: events.Close, How: 2, Flags: events.Disconnected,
		}, events.ShutdownSynSent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.ev.Kind, tt.ev.Syscall = events.KindShutdown, "shutdown"
			tt.ev.Flags |= inTask
			endings, _ := conclude(tt.ev)
			if len(endings) != 1 || endings[0].Path != tt.want || endings[0].Trigger != events.TriggerShutdown {
				t.Fatalf("got %+v, want %s", endings, tt.want)
			}
			if got, want := endings[0].Evidence.Errno, -int(tt.ev.Result); got != want {
				t.Errorf("errno %d, want %d", got, want)
			}
		})
	}
}

// What the kernel does on its own account has no actor, even if a task was
// interrupted for it.
func TestEventsAlone(t *testing.T) {
	someTask := events.Task{PID: 1, Comm: "innocent"}
	tests := []struct {
		name  string
		ev    events.Event
		want  events.Path
		actor bool
	}{
		{"late linger2", events.Event{
			Kind: events.KindReply, Before: events.Close, Flags: events.SentRST | events.Orphan,
			Linger2Jiffies: -1,
		}, events.CloseRSTLinger2Late, false},
		{"late linger2, from the backlog of a task", events.Event{
			Kind: events.KindReply, Before: events.Close,
			Flags: events.SentRST | events.Orphan | events.TaskContext, Task: someTask, Linger2Jiffies: -1,
		}, events.CloseRSTLinger2Late, false},
		{"data after shutdown", events.Event{
			Kind: events.KindReply, Before: events.Close, Flags: events.SentRST, SockErr: 104,
		}, events.ShutdownData, false},
		{"deferred FIN", events.Event{
			Kind: events.KindFIN, Before: events.Established, Flags: events.SentFIN,
		}, events.ShutdownDeferred, false},
		{"child of a listener", events.Event{
			Kind: events.KindReset, Before: events.Established, Listener: 9,
			Flags: events.SentRST | events.TaskContext, Syscall: "close", Task: someTask,
		}, events.CloseRSTChild, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			endings, _ := conclude(tt.ev)
			if len(endings) != 1 || endings[0].Path != tt.want || (endings[0].Actor != nil) != tt.actor {
				t.Fatalf("got %+v, want %s", endings, tt.want)
			}
		})
	}
	for _, ev := range []events.Event{
		{Kind: events.KindReply, Before: events.Established, Flags: events.SentRST},
		{Kind: events.KindReset, Before: events.Established, Flags: events.SentRST},
		{Kind: events.KindDone, Before: events.Established},
	} {
		if endings, unexplained := conclude(ev); len(endings) != 0 || unexplained != 1 {
			t.Errorf("%+v: got %+v, want it counted as unexplained", ev, endings)
		}
	}
}

func TestTrigger(t *testing.T) {
	tests := []struct {
		name       string
		ev         events.Event
		want       events.Trigger
		wantSignal int
	}{
		{"close", events.Event{Syscall: "close"}, events.TriggerClose, 0},
		{"dup2", events.Event{Syscall: "dup3"}, events.TriggerDup2, 0},
		{"execve", events.Event{Syscall: "execve"}, events.TriggerExecve, 0},
		{"exit", events.Event{Syscall: "exit_group", TaskFlags: pfExiting, ExitCode: 3 << 8}, events.TriggerExit, 0},
		{"killed", events.Event{Syscall: "read", TaskFlags: pfExiting, ExitCode: 9}, events.TriggerSignal, 9},
		{"killed with core", events.Event{
			Syscall: "read", TaskFlags: pfExiting, ExitCode: 0x80 | 11,
		}, events.TriggerSignal, 11},
		{"io_uring inline", events.Event{Syscall: "io_uring_enter"}, events.TriggerIOUring, 0},
		{"io_uring worker, 5.12", events.Event{TaskFlags: pfIOWorker}, events.TriggerIOUring, 0},
		{"io_uring worker, 6.4", events.Event{TaskFlags: pfUserWorker}, events.TriggerIOUring, 0},
		{"kernel thread", events.Event{TaskFlags: pfKthread}, events.TriggerKernel, 0},
		{"blocked reader", events.Event{Syscall: "recvfrom"}, events.TriggerLastReference, 0},
		{"unknown", events.Event{}, events.TriggerClose, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.ev.Kind, tt.ev.Before, tt.ev.Flags = events.KindClose, events.Established, inTask|events.SentFIN
			endings, _ := conclude(tt.ev)
			if len(endings) != 1 || endings[0].Trigger != tt.want || endings[0].Signal != tt.wantSignal {
				t.Fatalf("got %+v, want %s %d", endings, tt.want, tt.wantSignal)
			}
			if got := endings[0].Syscall; (got != "") != (tt.want == events.TriggerLastReference) {
				t.Errorf("syscall %q", got)
			}
		})
	}
}

// byStates is a FIN close as tracepoint mode reports it: at the change of
// state, with the rest of the call to come.
func byStates(flags events.Flags, at uint64) events.Event {
	return events.Event{
		Kind: events.KindClose, MonoNS: at, Sock: 1, Task: events.Task{PID: 5, TID: 6}, Syscall: "close",
		Before: events.Established, After: events.FinWait1, Flags: inTask | events.ReturnUnseen | events.SentFIN | flags,
	}
}

func TestPendingClose(t *testing.T) {
	ms := uint64(time.Millisecond)
	second := events.Event{Kind: events.KindReset, MonoNS: ms, Sock: 1, Task: events.Task{PID: 5, TID: 6},
		Flags: inTask | events.SentRST | events.InReportedCall, AtRST: events.FinWait1, KernelReason: "TCP_ABORT_ON_MEMORY"}
	endings, unexplained := conclude(byStates(0, 0), second)
	if len(endings) != 1 || endings[0].Path != events.CloseRSTOOM || !endings[0].FIN || !endings[0].RST ||
		unexplained != 0 {
		t.Errorf("FIN and RST of one call: %+v", endings)
	}
	if endings[0].KernelReason != "TCP_ABORT_ON_MEMORY" {
		t.Errorf("kernel's reason %q", endings[0].KernelReason)
	}

	// Another ending of that socket, which waits in the same way, sent no FIN.
	end := events.Event{Kind: events.KindDone, Sock: 1, Task: events.Task{PID: 5, TID: 6}, Flags: events.TaskContext,
		Before: events.FinWait1, After: events.Close, SockErr: 110}
	endings, unexplained = conclude(end, second)
	if len(endings) != 2 || endings[0].RST == endings[1].RST || unexplained != 0 {
		t.Errorf("a RST behind another ending: %d endings, %d unexplained", len(endings), unexplained)
	}

	c, n := New(testHeader), 0
	ev := byStates(0, 0)
	c.Push(&ev, func(*events.Ending) { n++ })
	if n != 0 {
		t.Error("emitted before a second fact could come")
	}

	// The address is used again: the first close is over.
	endings, _ = conclude(byStates(0, 0), byStates(0, ms))
	if len(endings) != 2 {
		t.Errorf("two closes at one address: %d endings", len(endings))
	}
}

func TestLingerByStates(t *testing.T) {
	lingering := byStates(events.LingerOn, 0)
	lingering.LingerJiffies = 2 * hz
	over := events.Event{Kind: events.KindWaitOver, Sock: 1, After: events.FinWait2, MonoNS: uint64(40 * time.Millisecond)}
	interrupted, reset := over, over
	interrupted.Signal, interrupted.After = 14, events.StateUnknown
	reset.After, reset.OutputLeft = events.Close, 1

	endings, _ := conclude(lingering, over)
	if len(endings) != 1 || endings[0].Path != events.CloseLingerDone ||
		endings[0].Evidence.Waited != 40*time.Millisecond || endings[0].Doubt != "" {
		t.Errorf("acknowledged: %+v", endings)
	}
	endings, _ = conclude(lingering, interrupted)
	if len(endings) != 1 || endings[0].Path != events.CloseLingerSignal || endings[0].Signal != 14 {
		t.Errorf("interrupted: %+v", endings)
	}
	endings, _ = conclude(lingering, reset)
	if len(endings) != 1 || endings[0].Path != events.CloseLingerAborted ||
		endings[0].Evidence.Waited != 40*time.Millisecond {
		t.Errorf("reset: %+v", endings)
	}
	later := byStates(0, uint64(3*time.Second))
	later.Sock = 2
	endings, _ = conclude(lingering, later)
	if len(endings) != 2 || endings[0].Path != events.CloseLingerTimeout ||
		endings[0].Evidence.Waited != 2*time.Second || endings[0].Doubt == "" {
		t.Errorf("timed out: %+v", endings)
	}
}

// 8,192 closes wait at most.
func TestJoinsAreBounded(t *testing.T) {
	c, n := New(testHeader), 0
	for i := range 8192 + 10 {
		ev := byStates(0, 0)
		ev.Sock = uint64(i + 1)
		c.Push(&ev, func(*events.Ending) { n++ })
	}
	if n != 10 {
		t.Errorf("%d reported before their deadline, want 10", n)
	}
	c.Flush(func(*events.Ending) { n++ })
	if n != 8192+10 {
		t.Errorf("%d of %d reported in the end", n, 8192+10)
	}
}

func TestUnseenSegmentIsInferred(t *testing.T) {
	for _, ev := range []events.Event{
		{Before: events.Established, UnreadBytes: 5},
		{Before: events.Established},
		{Before: events.CloseWait},
		{Before: events.Established, Flags: events.LingerOn},
		{Before: events.Established, Flags: events.SentRST, AtRST: events.Established},
	} {
		ev.Kind = events.KindClose
		ev.Flags |= inTask
		endings, _ := conclude(ev)
		if len(endings) != 1 || endings[0].Confidence() != "inferred" {
			t.Errorf("%+v: %+v", ev, endings)
		}
	}
	old := events.Event{Kind: events.KindClose, Before: events.Established, Flags: events.TaskContext | events.SentFIN}
	if endings, _ := conclude(old); endings[0].Confidence() != "inferred" {
		t.Error("evidence read without the lock passes for observed")
	}
}

func TestPhrase(t *testing.T) {
	got := string(phrase{}.bytes(1234567).text(", ").count(1, "connection").text(", ").count(2, "handshake").
		text(", ").
		duration(1500 * time.Millisecond).
		text(", ").duration(40 * time.Millisecond).text(", ").duration(7 * time.Microsecond))
	if want := "1,234,567 B, 1 connection, 2 handshakes, 1.5 s, 40 ms, 7 µs"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A RST that comes after its close was reported is reported by itself: nothing on
// the wire goes unexplained.
func TestLateRST(t *testing.T) {
	for want, reset := range map[events.Path]events.Event{
		events.CloseRSTLinger2: {Before: events.FinWait2, Linger2Jiffies: -1},
		events.CloseRSTOOM:     {Before: events.FinWait1},
	} {
		reset.Kind, reset.Sock, reset.MonoNS = events.KindReset, 1, uint64(time.Second)
		reset.Flags = events.TaskContext | events.SentRST | events.InReportedCall | events.Orphan
		endings, unexplained := conclude(byStates(0, 0), reset)
		if len(endings) != 2 || unexplained != 0 {
			t.Fatalf("%d endings, %d unexplained", len(endings), unexplained)
		}
		if fin, rst := endings[0], endings[1]; !fin.FIN || fin.RST || rst.FIN || !rst.RST || rst.Path != want ||
			rst.Trigger != events.TriggerClose {
			t.Errorf("%+v\n%+v, want %s", fin, rst, want)
		}
	}
}

// The last ACK of a handshake may wait for a task in another call, which handles it when it releases the lock: the FIN
// of an earlier shutdown(2) is sent in its context.
func TestDeferredFINFromBacklog(t *testing.T) {
	for _, flags := range []events.Flags{0, inTask} {
		endings, unexplained := conclude(events.Event{Kind: events.KindFIN, Before: events.FinWait1, After: events.FinWait1,
			Flags: flags | events.SentFIN, ShutdownMask: 2, Syscall: "setsockopt"})
		if len(endings) != 1 || unexplained != 0 || endings[0].Path != events.ShutdownDeferred ||
			endings[0].Trigger != events.TriggerSegment || endings[0].Actor != nil {
			t.Errorf("flags %s: %+v, %d unexplained", flags, endings, unexplained)
		}
	}
	for _, ev := range []events.Event{ // of a call whose beginning was missed
		{Flags: inTask | events.SentFIN, ShutdownMask: 2, Syscall: "shutdown"},
		{Flags: inTask | events.SentFIN | events.FileClosing, ShutdownMask: 3, Syscall: "close"},
	} {
		ev.Kind, ev.Before, ev.After = events.KindFIN, events.Established, events.FinWait1
		if endings, unexplained := conclude(ev); len(endings) != 0 || unexplained != 1 {
			t.Errorf("in %s: %+v, %d unexplained", ev.Syscall, endings, unexplained)
		}
	}
}
