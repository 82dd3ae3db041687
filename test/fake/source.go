// Package fake has a source of made-up events, for tests without a kernel side.
package fake

import (
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
)

// Where all events of a [Source] happen.
const (
	Netns  = 4026531840
	Cgroup = 7
)

// Source makes up closes of established connections.
type Source struct {
	Left     int  // events to come; negative: endless until it is detached
	BadFirst bool // the first record cannot be decoded
	Silent   bool // the sockets never connected, so their closes have no effect

	events.ReportsAll
	wall     int64 // offset of its clock
	read     atomic.Bool
	detached atomic.Bool
}

// Header is that of a made-up kernel.
func (f *Source) Header() events.Header {
	if f.wall == 0 {
		f.wall = time.Now().UnixNano() - int64(monoNow())
	}
	return events.Header{
		Schema: events.SchemaVersion, Kernel: "6.1.0-fake", Attach: "fentry", HZ: 250, WallOffsetNS: f.wall,
		Host: "db1", BootID: "00000000-0000-4000-8000-000000000000",
	}
}

// Read makes up an event of now. Without one, it takes a while.
func (f *Source) Read(ev *events.Event) error {
	if f.BadFirst {
		f.BadFirst = false
		return hint.New(hint.Undecodable, "record of 3 bytes", "rebuild")
	}
	if f.Left == 0 || f.Left < 0 && f.detached.Load() {
		time.Sleep(10 * time.Millisecond)
		return events.ErrIdle
	}
	f.Left--
	f.read.Store(true)
	*ev = events.Event{
		Kind: events.KindClose, MonoNS: monoNow(), DurationNS: 5210, Sock: 1,
		Flags: events.SentFIN | events.TaskContext | events.FileClosing | events.UnderLock,
		Local: netip.MustParseAddrPort("10.0.0.5:443"), Remote: netip.MustParseAddrPort("10.0.0.9:51234"),
		Netns: Netns, CgroupID: Cgroup, SocketCgroupID: Cgroup,
		Task: events.Task{PID: 4211, TID: 4211, Comm: "nginx"}, Syscall: "close",
		Before: events.Established, After: events.FinWait1,
	}
	if f.Silent {
		ev.Flags &^= events.SentFIN
		ev.Remote, ev.Before, ev.After = netip.AddrPort{}, events.Close, events.Close
	}
	return nil
}

// Losses returns two lost records, once an event was read.
func (f *Source) Losses() events.Losses {
	if !f.read.Load() {
		return events.Losses{}
	}
	return events.Losses{LostRecords: 2}
}

// IdleNS returns the time of now.
func (f *Source) IdleNS() uint64 { return monoNow() }

// WallOffset is that of the header.
func (f *Source) WallOffset() int64 { return f.Header().WallOffsetNS }

// PollSoon does nothing.
func (f *Source) PollSoon() {}

// PollLater does nothing either.
func (f *Source) PollLater() {}

// Detach ends an endless source.
func (f *Source) Detach() error { f.detached.Store(true); return nil }

// Close does nothing.
func (f *Source) Close() error { return nil }

// monoNow returns the time of CLOCK_MONOTONIC, of which events are.
func monoNow() uint64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err) // every system has this clock
	}
	return uint64(now.Nano())
}
