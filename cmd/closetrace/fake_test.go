package main

import (
	"context"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
)

// TestMain makes this program, and versions of it whose facts are made up,
// commands of the scripts. The shipped program has no such versions.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"closetrace": main,
		// three endings, then nothing
		"closetrace-fake": func() { os.Exit(run(context.Background(), fakeSystem(3))) },
		// endings without end, as fast as they are read
		"closetrace-flood": func() { os.Exit(run(context.Background(), fakeSystem(-1))) },
	})
}

// fakeSystem is this machine, but with a fake for its kernel.
func fakeSystem(facts int) *env {
	e := system()
	e.open = func(context.Context, probe.Options) (source, error) {
		return &fakeSource{left: facts, clock: e.clock}, nil
	}
	e.finder.inode = func(string) (uint32, error) { return fakeNetns, nil }
	e.counters = func(string, uint32) (sink.Counters, error) { return sink.Counters{}, nil }
	return e
}

// fakeNetns is where all of a fake's endings are.
const fakeNetns = 4026531840

// fakeSource makes up closes of established connections.
type fakeSource struct {
	left     int // facts to come; negative: endless
	clock    func() uint64
	detached atomic.Bool
	badFirst bool // the first record cannot be decoded
}

func (f *fakeSource) Header() events.Header {
	return events.Header{
		Schema: events.SchemaVersion, Kernel: "6.1.0-fake", Attach: "fentry", HZ: 250,
		WallOffsetNS: time.Now().UnixNano() - int64(f.clock()),
	}
}

func (f *fakeSource) Read(ev *events.Event) error {
	if f.badFirst {
		f.badFirst = false
		return badRecord{}
	}
	if f.left == 0 || f.left < 0 && f.detached.Load() {
		time.Sleep(10 * time.Millisecond)
		return probe.ErrIdle
	}
	f.left--
	*ev = events.Event{
		Kind: events.KindClose, MonoNS: f.clock(), DurationNS: 5210, Sock: 1,
		Flags: events.SentFIN | events.TaskContext | events.FileClosing | events.UnderLock,
		Local: netip.MustParseAddrPort("10.0.0.5:443"), Remote: netip.MustParseAddrPort("10.0.0.9:51234"),
		Netns: fakeNetns, Task: events.Task{PID: 4211, TID: 4211, Comm: "nginx"}, Syscall: "close",
		Before: events.Established, After: events.FinWait1,
	}
	return nil
}

func (f *fakeSource) Losses() probe.Losses { return probe.Losses{LostRecords: 2} }

func (f *fakeSource) Detach() error { f.detached.Store(true); return nil }

func (f *fakeSource) Close() error { return nil }

type badRecord struct{}

func (badRecord) Error() string     { return "record of 3 bytes" }
func (badRecord) Hint() string      { return "rebuild" }
func (badRecord) Undecodable() bool { return true }
