package stuck

import (
	"net/netip"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sockets"
)

// A helper program holds a connection that its server closed. Each row but the first two differs in one fact, which
// may mean that the holder is the one that has to close.
func TestInheritedByAProgram(t *testing.T) {
	const unread = "only the EOF is unread"
	const why = "inherited: sleep[77] was started by python3[10], which listens at :6014 and does not hold it; " + unread
	type ancestor = sockets.Ancestor
	server := sockets.Holder{PID: 10, Comm: "python3", FDs: []int{4}, Age: time.Hour}
	by := func(comm string, fd int, ancestors ...ancestor) sockets.Holder {
		h := sockets.Holder{PID: 77, Comm: comm, FDs: []int{fd}, Age: time.Hour}
		h.Process = &sockets.Process{Ancestors: ancestors}
		return h
	}
	python, shell := ancestor{PID: 10, Comm: "python3"}, ancestor{PID: 30, Comm: "sh"}
	systemd := ancestor{PID: 10, Comm: "systemd"}
	sshd, first := ancestor{PID: 10, Comm: "sshd"}, ancestor{PID: 1, Comm: "init"}
	sleep := by("sleep", 5, python)
	only := func(h sockets.Holder) []sockets.Holder { return []sockets.Holder{h} }
	both := func(pid uint32) []sockets.Holder { return []sockets.Holder{server, {PID: pid}} }
	tests := []struct {
		name               string
		holders, listening []sockets.Holder
		port               uint16
		closed             bool // the descriptor is close-on-exec
		want               Diagnosis
	}{
		{"a helper", only(sleep), only(server), 6014, false, Inherited},
		{"by a shell", only(by("sleep", 5, shell, python)), only(server), 6014, false, Inherited},
		{"the server holds it, too", []sockets.Holder{server, sleep}, only(server), 6014, false, NotReading},
		{"nobody listens", only(sleep), nil, 6014, false, NotReading},
		{"another port", only(sleep), only(server), 6015, false, NotReading},
		{"another parent", only(by("sleep", 5, shell)), only(server), 6014, false, NotReading},
		{"a worker that listens", only(by("worker", 5, python)), both(77), 6014, false, NotReading},
		{"a process per connection", only(by("python3", 5, python)), only(server), 6014, false, NotReading},
		{"like sshd-session", only(by("python3-session", 5, python)), only(server), 6014, false, NotReading},
		{"by systemd", only(by("sleep", 5, systemd)), only(server), 6014, false, NotReading},
		{"two ancestors listen", only(by("sshd-session", 5, sshd, first)), both(1), 6014, false, NotReading},
		{"standard error", only(by("sleep", 2, python)), only(server), 6014, false, NotReading},
		{"close-on-exec", only(sleep), only(server), 6014, true, NotReading},
	}
	for _, tt := range tests {
		all := []sockets.Socket{
			{State: events.Listen, Local: netip.AddrPortFrom(netip.IPv4Unspecified(), tt.port), Inode: 9},
			{
				State: events.CloseWait, Local: netip.MustParseAddrPort("10.0.0.5:6014"), Remote: there, Inode: 1,
				ReceiveQueue: 1, LastHeard: time.Minute,
			},
		}
		found := Find(&sockets.Snapshot{
			Sockets: sockets.NewList(all...), Holders: sockets.HoldersOf(map[uint64][]sockets.Holder{1: tt.holders, 9: tt.listening}),
			KeptByExec: func(pid, _ uint32, fd int) bool { return !tt.closed && (pid == 77 || pid == 10) && fd > 0 },
		})
		want := map[Diagnosis]string{Inherited: why, NotReading: unread}[tt.want]
		if f := found[0]; f.Diagnosis != tt.want || f.Why != want {
			t.Errorf("%s: %s: %s", tt.name, f.Diagnosis, f.Why)
		}
	}
}

// A listener is listed if its queue takes no more: it takes one more than its limit.
func TestFullListener(t *testing.T) {
	stopped := parent
	stopped.Process = &sockets.Process{State: sockets.Stopped}
	tests := []struct {
		queued, backlog uint32
		holders         []sockets.Holder
		why             string // "": not listed
	}{
		{0, 0, nil, ""},
		{1, 1, []sockets.Holder{parent}, ""},
		{1, 0, []sockets.Holder{parent}, "the accept queue is full (1 of 0); server[10] does not accept, or too slowly"},
		{2, 1, []sockets.Holder{parent}, "the accept queue is full (2 of 1); server[10] does not accept, or too slowly"},
		{4097, 4096, []sockets.Holder{parent, child},
			"the accept queue is full (4,097 of 4,096); server[10], worker[11] do not accept, or too slowly"},
		{2, 1, nil, "the accept queue is full (2 of 1); its holder is not visible"},
		{2, 1, []sockets.Holder{stopped}, "the accept queue is full (2 of 1); server[10] does not accept, or too slowly; " +
			"server[10] is stopped by a signal (SIGSTOP, SIGTSTP)"},
	}
	for _, tt := range tests {
		s := sockets.Socket{
			State: events.Listen, Local: here, Remote: netip.AddrPortFrom(netip.IPv4Unspecified(), 0), Inode: 5,
			ReceiveQueue: tt.queued, SendQueue: tt.backlog,
		}
		found := findAll([]sockets.Socket{s}, map[uint64][]sockets.Holder{5: tt.holders})
		switch {
		case tt.why == "" && len(found) == 0:
		case len(found) != 1 || tt.why != found[0].Why:
			t.Errorf("%d of %d: got %+v", tt.queued, tt.backlog, found)
		case found[0].Diagnosis != QueueFull || found[0].Service != "here:8080" || found[0].Remote.IsValid() ||
			found[0].Age != nil || found[0].Listener.Queued != tt.queued || found[0].Unread != 0:
			t.Errorf("%d of %d: got %+v", tt.queued, tt.backlog, found[0])
		}
	}
}

// The reason says why a process that has to read, accept or close cannot.
func TestConditions(t *testing.T) {
	const unread = "only the EOF is unread"
	tests := []struct {
		process *sockets.Process
		why     string
	}{
		{nil, unread},
		{&sockets.Process{Descriptors: 11, DescriptorLimit: 12}, unread},
		{&sockets.Process{Descriptors: 12, DescriptorLimit: 12},
			unread + "; server[10] is out of descriptors (12 of 12 used)"},
		{&sockets.Process{Descriptors: 12}, unread},
		{&sockets.Process{State: sockets.Stopped}, unread + "; server[10] is stopped by a signal (SIGSTOP, SIGTSTP)"},
		{&sockets.Process{State: sockets.Traced}, unread + "; server[10] is stopped by a debugger"},
		{&sockets.Process{State: sockets.Frozen}, unread + "; server[10] is frozen by its cgroup"},
		{&sockets.Process{State: sockets.Uninterruptible},
			unread + "; server[10] is in uninterruptible sleep (first thread in state D)"},
		{&sockets.Process{State: sockets.Frozen, Descriptors: 3, DescriptorLimit: 2},
			unread + "; server[10] is frozen by its cgroup and is out of descriptors (3 of 2 used)"},
	}
	for _, tt := range tests {
		holder := parent
		holder.Process = tt.process
		s := sockets.Socket{State: events.CloseWait, Local: here, Remote: there, Inode: 1, ReceiveQueue: 1}
		found := findAll([]sockets.Socket{s}, map[uint64][]sockets.Holder{1: {holder}})
		if found[0].Diagnosis != NotReading || found[0].Why != tt.why {
			t.Errorf("%+v: %s: %s", tt.process, found[0].Diagnosis, found[0].Why)
		}
	}

	// Of a connection that was never accepted, the process is that of the listener.
	stopped := parent
	stopped.Process = &sockets.Process{State: sockets.Stopped}
	found := findAll([]sockets.Socket{
		{State: events.Listen, Local: here, Inode: 5, ReceiveQueue: 1, SendQueue: 128},
		{State: events.CloseWait, Local: here, Remote: there, ReceiveQueue: 1},
	}, map[uint64][]sockets.Holder{5: {stopped}})
	const want = "never accepted: in the accept queue of 10.0.0.5:8080 (1, backlog 128), held by server[10]; " +
		"server[10] is stopped by a signal (SIGSTOP, SIGTSTP)"
	if found[0].Why != want {
		t.Errorf("got %s", found[0].Why)
	}

	// The peer has to act: the process does not matter.
	found = findAll([]sockets.Socket{{State: events.FinWait2, Inode: 5}}, map[uint64][]sockets.Holder{5: {stopped}})
	if found[0].Why != "shut down for writing, the peer has not closed; no timer ends it" {
		t.Errorf("got %s", found[0].Why)
	}
}
